import { link, mkdir, open, readdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { NtfsContent, NtfsOptions } from './ntfs.ts'
import { addHive, MACHINE_SID } from './ntfs-hive.ts'
import { run } from './programs.ts'
import { full, randomOf, type Tokens } from './tokens.ts'

const MIB = 1024 ** 2

/** Kept by rule, and by need; all others of these go. */
const KEPT_USERS = ['Administrator', 'Public', 'Default'] as const
const REMOVED_USERS = [
  'alice',
  'Bob',
  '李雷',
  'zoë',
  'user.with.dots',
  'ADMINISTRATOR.HOST',
  'public2',
] as const
const CROWD = 2000
const KEPT_CROWD = 500

/** Writes into a mounted volume, and notes what is to become of it. */
class Filler {
  readonly folder: string
  readonly tokens: Tokens
  readonly random: () => number
  readonly streams: string[] = []

  constructor(folder: string, tokens: Tokens) {
    this.folder = folder
    this.tokens = tokens
    this.random = randomOf(tokens.seed)
  }

  at(path: string): string {
    return join(this.folder, path)
  }

  async folders(...paths: readonly string[]): Promise<void> {
    for (const path of paths) await mkdir(this.at(path), { recursive: true })
  }

  async file(path: string, content: Uint8Array | string): Promise<void> {
    await mkdir(dirname(this.at(path)), { recursive: true })
    await writeFile(this.at(path), content)
  }

  newToken(isKept: boolean, kind: string): string {
    return isKept ? this.tokens.newKept(kind) : this.tokens.newGone(kind)
  }

  async attribute(path: string, name: string, hex: string): Promise<void> {
    await run('setfattr', ['-h', '-n', `system.${name}`, '-v', `0x${hex}`, this.at(path)])
  }

  /** A junction: an empty directory that names another place. `target`: 'C:\…'. */
  async junction(path: string, target: string): Promise<void> {
    await this.folders(path)
    await this.attribute(path, 'ntfs_reparse_data', reparsePoint(0xa0000003, `\\??\\${target}`, target))
  }

  /** A symbolic link of Windows, relative. */
  async windowsLink(path: string, target: string): Promise<void> {
    await this.file(path, '')
    await this.attribute(path, 'ntfs_reparse_data', reparsePoint(0xa000000c, target, target, 1))
  }
}

function reparsePoint(tag: number, substitute: string, print: string, flags?: number): string {
  const [one, two] = [Buffer.from(substitute, 'utf16le'), Buffer.from(print, 'utf16le')]
  const head = Buffer.alloc(flags === undefined ? 8 : 12)
  head.writeUInt16LE(0, 0)
  head.writeUInt16LE(one.length, 2)
  head.writeUInt16LE(one.length + 2, 4)
  head.writeUInt16LE(two.length, 6)
  if (flags !== undefined) head.writeUInt32LE(flags, 8)
  const body = Buffer.concat([head, one, Buffer.alloc(2), two, Buffer.alloc(2)])
  const start = Buffer.alloc(8)
  start.writeUInt32LE(tag, 0)
  start.writeUInt16LE(body.length, 4)
  return Buffer.concat([start, body]).toString('hex')
}

/** Fills a mounted, empty volume as `options` say. */
export async function fillNtfs(folder: string, options: NtfsOptions): Promise<NtfsContent> {
  const filler = new Filler(folder, options.tokens)
  return options.isData === true ? fillData(filler) : fillWindows(filler, options)
}

async function fillData(filler: Filler): Promise<NtfsContent> {
  await everyKind(filler, 'Projects', true)
  await filler.file('$RECYCLE.BIN/S-1-5-18/desktop.ini', full(filler.tokens.newKept('bin'), 300))
  await filler.file(`$RECYCLE.BIN/${MACHINE_SID}-1001/$R1.txt`, full(filler.tokens.newGone('bin'), 30_000))
  await filler.file('System Volume Information/tracking.log', full(filler.tokens.newGone('tracking'), 20_480))
  await formerThings(filler, 'Projects')
  return {
    // The system's own is nobody's, as the list of profiles on the system disk tells.
    removed: [`$RECYCLE.BIN/${MACHINE_SID}-1001`],
    emptied: ['System Volume Information'],
    blanked: [],
    changed: [],
    streams: filler.streams,
  }
}

async function fillWindows(filler: Filler, options: NtfsOptions): Promise<NtfsContent> {
  const { tokens } = filler
  await filler.folders('Users', 'Windows/System32/config', 'Program Files', 'ProgramData', 'PerfLogs')
  // What an ordinary name of DOS beside the long one does to directories is part of every Windows.
  await filler.attribute('Program Files', 'ntfs_dos_name', Buffer.from('PROGRA~1').toString('hex'))
  await filler.file('Windows/notepad.exe', full(tokens.newKept('windows'), 200_000))
  await filler.file('Users/desktop.ini', full(tokens.newKept('desktop'), 174))
  for (const user of KEPT_USERS) await everyKind(filler, `Users/${user}`, true)
  const removedUsers = [...REMOVED_USERS, tokens.newGone('user')]
  for (const user of removedUsers) await everyKind(filler, `Users/${user}`, false)
  await everyKind(filler, 'Program Files/Company', true)
  await filler.junction('Users/Default User', 'C:\\Users\\Default')
  await filler.junction('Users/All Users', 'C:\\ProgramData')
  await filler.junction('Users/alice/Shared', 'C:\\Users\\Public')
  await filler.junction('Program Files/Old', 'C:\\Users\\Public')
  await filler.windowsLink('Users/alice/a link', '..\\Public\\resident.txt')
  await filler.windowsLink('Users/Public/a link', '..\\Default\\resident.txt')
  await symlink('../Public', filler.at('Users/Bob/posix link'))
  await addHardLinks(filler)

  await filler.file('pagefile.sys', full(tokens.newGone('page'), 3 * MIB))
  await filler.file('swapfile.sys', full(tokens.newGone('swap'), MIB))
  // Not hibernated: the first page of a file that was used once and is no longer wanted is zero.
  const hiberfil = full(tokens.newGone('hiber'), 2 * MIB)
  await filler.file('hiberfil.sys', hiberfil.fill(0, 0, 4096))
  await filler.file(`$Recycle.Bin/${MACHINE_SID}-1001/$RABCDEF.docx`, full(tokens.newGone('bin'), 50_000))
  await filler.file(`$Recycle.Bin/${MACHINE_SID}-1001/$IABCDEF.docx`, full(tokens.newGone('bin'), 544))
  const keepsBin = options.withHive === true
  const bin = filler.newToken(keepsBin, 'adminbin')
  await filler.file(`$Recycle.Bin/${MACHINE_SID}-500/$RKEPT.txt`, full(bin, 5000))
  await filler.file('System Volume Information/tracking.log', full(tokens.newGone('tracking'), 20_480))
  await filler.file(
    `System Volume Information/{${tokens.newGone('shadow')}}`,
    full(tokens.newGone('shadow'), MIB),
  )

  if (options.fileCount !== undefined) {
    await crowd(filler, 'Users/alice/Documents', options.fileCount / 2, false)
    await crowd(filler, 'Program Files/Crowd', options.fileCount / 2, true)
  }
  const changed = options.withHive === true ? await addHive(filler, removedUsers) : []
  await formerThings(filler, 'Windows')
  const bins = [`$Recycle.Bin/${MACHINE_SID}-1001`]
  return {
    removed: [
      ...removedUsers.map((user) => `Users/${user}`),
      ...(keepsBin ? bins : [...bins, `$Recycle.Bin/${MACHINE_SID}-500`]),
    ],
    emptied: ['System Volume Information'],
    blanked: ['pagefile.sys', 'swapfile.sys', 'hiberfil.sys'],
    changed,
    streams: filler.streams,
  }
}

/** One of each: empty, inside its record, large, with holes, compressed, with streams, with the longest name, in a crowd. */
async function everyKind(filler: Filler, top: string, isKept: boolean): Promise<void> {
  const token = (kind: string) => filler.newToken(isKept, kind)
  const isFirst = top === 'Users/alice' || top === 'Users/Public' || top === 'Projects'
  await filler.folders(top, `${top}/AppData/Local/Temp`, `${top}/Desktop`)
  await filler.file(`${top}/${token('empty')}`, '')
  await filler.file(`${top}/resident.txt`, `${token('resident')} and no more`)
  await filler.file(`${top}/Desktop/${token('name')}.txt`, full(token('small'), 3000))
  await filler.file(`${top}/AppData/Local/cache.bin`, full(token('cache'), 70_001))
  const longest = token('long')
  await filler.file(`${top}/${longest}${'n'.repeat(255 - longest.length)}`, token('longest'))
  const wide = token('wide')
  await filler.file(`${top}/${wide}${'长'.repeat(255 - wide.length)}`, token('widest'))
  await sparse(filler, `${top}/sparse.bin`, token('sparse'), token('sparseend'))
  await filler.file(`${top}/streams.txt`, full(token('main'), 100))
  for (const [stream, lengthBytes] of [
    ['Zone.Identifier', 60],
    [token('stream'), 20_000],
  ] as const) {
    await filler.file(`${top}/streams.txt:${stream}`, full(token('ads'), lengthBytes))
    if (isKept) filler.streams.push(`${top}/streams.txt:${stream}`)
  }
  await filler.folders(`${top}/Compressed`)
  await filler.attribute(`${top}/Compressed`, 'ntfs_attrib_be', '00000810')
  await filler.file(`${top}/Compressed/text.log`, full(token('packed'), isFirst ? 500_000 : 150_000))
  await filler.file(`${top}/Compressed/noise.log`, noisy(filler, token('noisy'), 100_000))
  if (!isFirst) return
  await filler.file(`${top}/video.mp4`, full(token('large'), 5 * MIB))
  await crowd(filler, `${top}/crowd`, isKept ? KEPT_CROWD : CROWD, isKept)
}

/** A token, then bytes that no compressor makes smaller, again and again. */
function noisy(filler: Filler, token: string, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes)
  for (let at = 0; at < lengthBytes; at++) bytes[at] = Math.floor(filler.random() * 256)
  for (let at = 0; at + token.length < lengthBytes; at += 4096) bytes.write(token, at)
  return bytes
}

async function sparse(filler: Filler, path: string, first: string, last: string): Promise<void> {
  await filler.file(path, '')
  const file = await open(filler.at(path), 'r+')
  try {
    await file.write(full(first, 8192), 0, 8192, 512 * 1024)
    await file.write(full(last, 100), 0, 100, 4 * MIB)
  } finally {
    await file.close()
  }
}

/** Many small files in one directory, so that its index is a tree; every tenth has a name of its own kind. */
async function crowd(filler: Filler, path: string, count: number, isKept: boolean): Promise<void> {
  await filler.folders(path)
  for (let i = 0; i < count; i++) {
    const token = i % 10 === 0 ? filler.newToken(isKept, 'crowd') : `file ${i}`
    const lengthBytes = i % 7 === 0 ? Math.floor(filler.random() * 12_000) : 0
    const content = filler.newToken(isKept, 'content')
    await writeFile(
      filler.at(`${path}/${token} ${i}`),
      lengthBytes === 0 ? content : full(content, lengthBytes),
    )
  }
}

/** Files with two names: both go, one goes, both stay. */
async function addHardLinks(filler: Filler): Promise<void> {
  const { tokens } = filler
  const both = async (one: string, other: string) => link(filler.at(one), filler.at(other))
  await filler.file('Users/alice/both.txt', full(tokens.newGone('both'), 9000))
  await both('Users/alice/both.txt', `Users/Bob/${tokens.newGone('bothname')}`)
  await filler.file('Users/Public/shared.txt', full(tokens.newKept('shared'), 9000))
  await both('Users/Public/shared.txt', `Users/alice/${tokens.newGone('shared')}`)
  await both('Users/Public/shared.txt', `Users/zoë/${tokens.newGone('shared')}`)
  await filler.file('Users/alice/first.txt', full(tokens.newKept('second'), 300))
  await both('Users/alice/first.txt', 'Program Files/second.txt')
  await filler.file('Windows/system.dll', full(tokens.newKept('system'), 20_000))
  await both('Windows/system.dll', 'Program Files/Company/system.dll')
}

/** Deleted, renamed, cut and overwritten before anybody thought of an image, in a directory that stays. */
async function formerThings(filler: Filler, top: string): Promise<void> {
  const { tokens } = filler
  const former = `${top}/former`
  await filler.folders(former, `${top}/crowded`)
  for (let i = 0; i < 300; i++) {
    await filler.file(`${top}/crowded/stays ${i}`, tokens.newKept('stays'))
    await filler.file(
      `${top}/crowded/${tokens.newGone('formerly')} ${i}`,
      full(tokens.newGone('deleted'), 700),
    )
  }
  const goes = (await readdir(filler.at(`${top}/crowded`))).filter((name) => !name.startsWith('stays'))
  for (const name of goes) await rm(filler.at(`${top}/crowded/${name}`))
  await filler.file(`${former}/${tokens.newGone('deleted')}`, full(tokens.newGone('deleted'), 2 * MIB))
  await filler.file(`${former}/gone/resident`, tokens.newGone('deleted'))
  await rm(filler.at(former), { recursive: true })

  const renamed = tokens.newGone('renamed')
  await everyName(filler, `${top}/${renamed}`)
  await rename(filler.at(`${top}/${renamed}`), filler.at(`${top}/renamed`))

  const cut = Buffer.concat([full(tokens.newKept('cut'), 10_000), full(tokens.newGone('cut'), 90_000)])
  await filler.file(`${top}/cut.txt`, cut)
  await truncate(filler.at(`${top}/cut.txt`), 10_000)
  await filler.file(`${top}/cut resident.txt`, `${tokens.newKept('cut')} ${tokens.newGone('cut')}`)
  await truncate(filler.at(`${top}/cut resident.txt`), 25)
  await filler.file(`${top}/replaced.txt`, full(tokens.newGone('replaced'), 50_000))
  await filler.file(`${top}/replaced.txt`, full(tokens.newKept('replaced'), 40_000))
}

async function everyName(filler: Filler, folder: string): Promise<void> {
  for (let i = 0; i < 40; i++) await filler.file(`${folder}/inside ${i}`, filler.tokens.newKept('inside'))
  const before = filler.tokens.newGone('before')
  await filler.file(`${folder}/${before}`, full(filler.tokens.newKept('after'), 400))
  await rename(filler.at(`${folder}/${before}`), filler.at(`${folder}/after`))
}
