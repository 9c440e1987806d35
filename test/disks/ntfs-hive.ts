import { buildHive, type HiveTree, profileListTree } from '../../src/volume/registry/hive.fixture.ts'
import { full, type Tokens } from './tokens.ts'

export const MACHINE_SID = 'S-1-5-21-1004336348-1177238915-682003330'
const FOLDER = 'Windows/System32/config'
export const PROFILE_LIST = ['Microsoft', 'Windows NT', 'CurrentVersion', 'ProfileList']
/** Where a removed user's entry would still point. */
export const HIVE_PATH = `${FOLDER}/SOFTWARE`

interface Files {
  readonly tokens: Tokens
  file(path: string, content: Uint8Array | string): Promise<void>
}

/**
 * \Windows\System32\config\SOFTWARE with an entry for each user, removed or kept, and its log. Answers the paths of what a
 * cleaning changes in place.
 */
export async function addHive(filler: Files, removedUsers: readonly string[]): Promise<readonly string[]> {
  const { tokens } = filler
  const profiles: Record<string, string> = {
    'S-1-5-18': '%systemroot%\\system32\\config\\systemprofile',
    [`${MACHINE_SID}-500`]: 'C:\\Users\\Administrator',
  }
  for (const [index, user] of removedUsers.entries())
    profiles[`${MACHINE_SID}-${1001 + index}`] = `%SystemDrive%\\Users\\${user}`
  const tree = profileListTree(profiles)
  const list = PROFILE_LIST.reduce<HiveTree | undefined>((key, name) => key?.keys?.[name], tree)
  for (const [index] of removedUsers.entries()) {
    const entry = list?.keys?.[`${MACHINE_SID}-${1001 + index}`]
    Object.assign(entry?.values ?? {}, {
      Note: tokens.newGone('hive'),
      Long: tokens.newGone('hive').repeat(50),
    })
    Object.assign(entry ?? {}, { security: tokens.newGone('security') })
  }
  Object.assign(tree.keys?.Microsoft ?? {}, { values: { Kept: tokens.newKept('hive') } })
  await filler.file(HIVE_PATH, buildHive(tree, { litter: `${tokens.newGone('litter')} ` }))
  await filler.file(`${HIVE_PATH}.LOG1`, full(tokens.newGone('hivelog'), 20_000))
  await filler.file(`${HIVE_PATH}.LOG2`, '')
  return [HIVE_PATH, `${HIVE_PATH}.LOG1`, `${HIVE_PATH}.LOG2`]
}
