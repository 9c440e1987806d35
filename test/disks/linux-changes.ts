import { createReadStream } from 'node:fs'
import { open, rm, writeFile } from 'node:fs/promises'
import { fixedIsFine, run } from './programs.ts'
import { full, GONE_PREFIX, TOKEN_LENGTH, type Tokens } from './tokens.ts'

/** Files that `fillLinux` and `fillData` leave for this, beneath the folder that is changed. */
export const CROWD_COUNT = 600

/**
 * Deletes, cuts and renames in a file system that nobody mounts, beneath a folder that stays: what is deleted keeps its
 * bytes, its inode and, in part, its name.
 */
export async function changeByHand(volume: string, tokens: Tokens, top: string): Promise<void> {
  const lines: string[] = []
  for (const [token, kind] of tokens.gone) {
    if (kind === 'delname') lines.push(`rm /${top}/crowd/${token}`)
    if (kind === 'delbig') lines.push(`rm /${top}/${token}`)
    if (kind === 'deldir') lines.push(`rm /${top}/${token}/inside`, `rmdir /${top}/${token}`)
  }
  const [was, value, large] = [tokens.newGone('note'), tokens.newKept('note'), tokens.newKept('bignote')]
  lines.push(
    `ea_set /${top}/noted user.note ${was}`,
    `ea_set /${top}/noted user.big ${`${tokens.newGone('note')} `.repeat(20).replaceAll(' ', '_')}`,
    `ea_rm /${top}/noted user.big`,
    `ea_set /${top}/noted user.note ${value}`,
    `ea_set /${top}/noted user.large ${large.repeat(20)}`,
    // All behind the first block: what is cut off stays on the disk, in blocks that are free.
    `punch /${top}/cut 1`,
  )
  // Large directories get their trees, which mke2fs does not make; done later, it would write them anew.
  await run('e2fsck', ['-fy', volume]).catch(fixedIsFine)
  const places = await placesOfNames(volume, tokens)
  await debugfs(volume, lines)
  await putNamesBack(volume, places)
}

/** Where names of the crowd that will be deleted are. */
async function placesOfNames(volume: string, tokens: Tokens): Promise<ReadonlyMap<number, Buffer>> {
  const places = new Map<number, Buffer>()
  const prefix = Buffer.from(`${GONE_PREFIX}delname-`)
  let offset = 0
  let tail = Buffer.alloc(0)
  for await (const bytes of createReadStream(volume, { highWaterMark: 1024 ** 2 })) {
    const window = Buffer.concat([tail, bytes as Buffer])
    for (let at = window.indexOf(prefix); at >= 0; at = window.indexOf(prefix, at + 1)) {
      const name = window.subarray(at, at + TOKEN_LENGTH)
      if (tokens.gone.has(name.toString())) places.set(offset - tail.length + at, Buffer.from(name))
    }
    offset += (bytes as Buffer).length
    tail = Buffer.from(window.subarray(-TOKEN_LENGTH))
  }
  return places
}

/**
 * debugfs and newer kernels wipe the names that they delete; older kernels leave them in the directory, and so does this.
 * e2fsck makes the checksums right again.
 */
async function putNamesBack(volume: string, places: ReadonlyMap<number, Buffer>): Promise<void> {
  const file = await open(volume, 'r+')
  try {
    for (const [offset, name] of places) {
      const { buffer } = await file.read(Buffer.alloc(name.length), 0, name.length, offset)
      // What is not zero has been taken by another entry.
      if (buffer.every((byte) => byte === 0)) await file.write(name, 0, name.length, offset)
    }
  } finally {
    await file.close()
  }
  await run('e2fsck', ['-fy', volume]).catch(fixedIsFine)
}

/** Runs a script of debugfs; its words of complaint are an error, its exit code would not tell. */
async function debugfs(volume: string, lines: readonly string[]): Promise<string> {
  const said = await run('debugfs', ['-w', '-f', '-', volume], `${lines.join('\n')}\n`)
  const bad = said
    .split('\n')
    .find((line) => !line.startsWith('debugfs') && /:\s.*(not found|Invalid|while)/.test(line))
  if (bad !== undefined) throw new Error(`debugfs: ${bad}`)
  return said
}

/**
 * Has the journal change a block of /replayed, and write and forget others: their bytes stay in the journal. Unless it is
 * left so, the journal is replayed.
 */
export async function plantInJournal(volume: string, tokens: Tokens, isLeft: boolean): Promise<void> {
  const header = await run('dumpe2fs', ['-h', volume])
  const blockBytes = Number(/Block size:\s+(\d+)/.exec(header)?.[1])
  const [target] = (await run('debugfs', ['-R', 'blocks /replayed', volume])).trim().split(/\s+/)
  const [block, other] = [`${volume}.block`, `${volume}.other`]
  try {
    await writeFile(block, full(tokens.newKept('replayed'), blockBytes))
    await writeFile(other, full(tokens.newGone('journal'), blockBytes))
    // The same block written by two transactions: only the later one counts, both are in the journal.
    await debugfs(volume, ['jo', `jw -b ${target} ${other}`, 'jc', 'jo', `jw -b ${target} ${block}`, 'jc'])
    if (!isLeft) await run('e2fsck', ['-fy', volume]).catch(fixedIsFine)
  } finally {
    await rm(block, { force: true })
    await rm(other, { force: true })
  }
}
