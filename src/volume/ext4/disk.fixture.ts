import { execFileSync } from 'node:child_process'
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { MemoryMedium } from '../memory-medium.fixture.ts'

const ENVIRONMENT = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` }

/** In everything that has to be gone: contents and names of what was removed, and the disk before it was formatted. */
export const CANARY = 'Canary-7391'

export interface DiskRecipe {
  readonly title: string
  readonly sizeMiB: number
  /** Arguments of mke2fs. */
  readonly format: readonly string[]
  /** Has extents, so that room can be set aside. */
  readonly hasExtents: boolean
  readonly hasIndexes: boolean
  readonly hasAttributes: boolean
}

/** Names that stay in the large directory, and as many that go. */
export const NAME_COUNT = 1500

export const BIG_ATTRIBUTE = 'large value '.repeat(40)

const ATTRIBUTES = [
  'ea_set /etc/short user.note little',
  `ea_set /etc/longer user.gone ${CANARY}${'x'.repeat(300)}`,
  `ea_set /etc/longer user.big "${BIG_ATTRIBUTE}"`,
  'ea_rm /etc/longer user.gone',
]

/** Runs a tool; its output. An exit code above `codeMax` throws. */
export function runTool(name: string, args: readonly string[], input = '', codeMax = 0): string {
  try {
    return execFileSync(name, args, { input, env: ENVIRONMENT, stdio: ['pipe', 'pipe', 'pipe'] }).toString()
  } catch (error) {
    const { status, stdout, stderr } = error as { status: number; stdout: Buffer; stderr: Buffer }
    if (status > 0 && status <= codeMax) return stdout.toString()
    throw new Error(`${name} ${args.join(' ')}: ${status}\n${stdout}\n${stderr}`)
  }
}

export function debugfs(imagePath: string, commands: readonly string[]): string {
  return runTool('debugfs', ['-w', '-f', '-', imagePath], `${commands.join('\n')}\n`)
}

export function loadDisk(imagePath: string): MemoryMedium {
  return MemoryMedium.of(readFileSync(imagePath))
}

/** The files of every disk as a folder: those that stay and, if `withRemoved`, those that are removed again. */
export function makeTree(treePath: string, withRemoved: boolean): void {
  const file = (name: string, content: string | Buffer) => writeFileSync(join(treePath, name), content)
  mkdirSync(treePath)
  for (const folder of ['etc', 'big', 'small', 'home']) mkdirSync(join(treePath, folder))
  file('etc/empty', '')
  file('etc/short', 'ten bytes\n')
  file('etc/block', 'b'.repeat(4096))
  file('etc/longer', 'kept '.repeat(20_001))
  file('etc/three-megabytes', Buffer.alloc(3_000_001, 'three '))
  file('etc/李雷', 'zoë')
  file('etc/swapfile', Buffer.alloc(300_000, 'swapped '))
  const sparse = openSync(join(treePath, 'etc/sparse'), 'w')
  for (let index = 0; index < 12; index++) writeSync(sparse, `island ${index}`, index * 200_000)
  closeSync(sparse)
  writeFileSync(
    Buffer.concat([Buffer.from(join(treePath, 'etc/')), Buffer.from([0x6f, 0xff, 0x64])]),
    'odd name',
  )
  linkSync(join(treePath, 'etc/short'), join(treePath, 'small/second-name'))
  symlinkSync('short', join(treePath, 'etc/fast-link'))
  symlinkSync(`/${'long/'.repeat(40)}end`, join(treePath, 'etc/slow-link'))
  for (let index = 0; index < NAME_COUNT; index++)
    file(`big/kept-file-with-a-long-name-${index}`, index % 10 ? '' : `${index}`)
  writeFileSync(join(treePath, 'etc/cut'), withRemoved ? `kept${` ${CANARY}`.repeat(60)}` : 'kept')
  if (!withRemoved) return
  mkdirSync(join(treePath, 'home/gone/deep'), { recursive: true })
  for (let index = 0; index < NAME_COUNT; index++) file(`big/gone-${CANARY}-${index}`, '')
  for (let index = 0; index < 20; index++) {
    file(`home/gone/${CANARY}-${index}`, `${CANARY} `.repeat(1 + index * 300))
  }
  file('home/gone/deep/tail', `${CANARY} `.repeat(300))
  symlinkSync(`${CANARY}-target`, join(treePath, 'home/gone/fast'))
  symlinkSync(`/${`${CANARY}/`.repeat(20)}end`, join(treePath, 'home/gone/slow'))
}

/**
 * A disk that was full of canaries before it was formatted, and then had files on it that were removed. `treePath`: one made
 * with those. Gives the path of the disk, about which `e2fsck -fn` has nothing to say.
 */
export function makeDisk(folder: string, treePath: string, recipe: DiskRecipe): string {
  const imagePath = join(folder, `${recipe.title.replaceAll(/\W+/g, '-')}.raw`)
  writeFileSync(imagePath, Buffer.alloc(recipe.sizeMiB * 2 ** 20, `${CANARY} before `))
  const always = [
    '-q',
    '-F',
    '-L',
    'a label',
    '-E',
    'nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0',
  ]
  // A little smaller than its disk, so that there is something behind it.
  runTool('mke2fs', [
    ...always,
    ...recipe.format,
    '-d',
    treePath,
    imagePath,
    `${recipe.sizeMiB * 1024 - 64}k`,
  ])
  if (recipe.hasIndexes) runTool('e2fsck', ['-fyD', imagePath], '', 1)
  const removals = [
    ...Array.from({ length: NAME_COUNT }, (_, index) => `rm /big/gone-${CANARY}-${index}`),
    'rm /home/gone/deep/tail',
    'rmdir /home/gone/deep',
    ...Array.from({ length: 20 }, (_, index) => `rm /home/gone/${CANARY}-${index}`),
    'rm /home/gone/fast',
    'rm /home/gone/slow',
    'rmdir /home/gone',
  ]
  const changes = [
    'sif /etc/cut size 4',
    ...(recipe.hasAttributes ? ATTRIBUTES : []),
    ...(recipe.hasExtents ? ['write /dev/null /etc/reserved', 'fallocate /etc/reserved 0 200'] : []),
  ]
  debugfs(imagePath, [...removals, ...changes])
  // debugfs keeps no account of quotas.
  if (recipe.format.join().includes('quota')) runTool('e2fsck', ['-fy', imagePath], '', 1)
  runTool('e2fsck', ['-fn', imagePath])
  return imagePath
}
