import { isFault } from '../image/fault.ts'
import type { DiskLayout, FileSystem, VolumeKind } from '../volume/contract.ts'
import { type Hive, type KeyPath, parseHive } from '../volume/registry/hive.ts'
import { CONFIG_PATH } from './profile-list.ts'
import { Tree } from './tree.ts'

/** What a look at disks says of the system on them; undefined where nothing says so. Text of strangers: shown, never believed. */
export interface FoundSystem {
  readonly osType?: 'Linux' | 'Windows'
  /** As the system calls itself: 'Debian GNU/Linux 12 (bookworm)', 'Windows 11 Pro 23H2'. At most 128 characters. */
  readonly osName?: string
  /** How the system disk can be started: from its partition table and boot partition. */
  readonly firmware?: 'bios' | 'uefi'
}

/** What one of the disks says. */
export interface DiskFinding extends FoundSystem {
  /** The system itself is there, and not only a volume of the form that it makes. */
  readonly isSystem: boolean
}

/** A part of a disk, for this one look at it. */
export interface SeenVolume {
  readonly kind: VolumeKind
  readonly title: string
  /** Of 'boot-code': whether there is any. */
  readonly hasCode: boolean
  /** Of a volume with files, as far as they can be read. Throws refusals. */
  openFiles?(): Promise<FileSystem>
}

export interface SeenDisk {
  readonly scheme: DiskLayout['scheme']
  /** Whether there is code in the first sector, before its table. */
  readonly hasCode: boolean
  readonly volumes: readonly SeenVolume[]
}

type OsType = NonNullable<FoundSystem['osType']>
type System = Pick<FoundSystem, 'osType' | 'osName'>

const NAME_LENGTH_MAX = 128
const RELEASE_PATHS = ['/etc/os-release', '/usr/lib/os-release']
const RELEASE_BYTES_MAX = 64 << 10
/** Reading it takes that much memory twice where it lies in pieces, of the 256 MiB that an examiner has for this. */
const HIVE_BYTES_MAX = 64 << 20
const CURRENT_VERSION: KeyPath = ['Microsoft', 'Windows NT', 'CurrentVersion']
/** Windows 11 calls itself 10 in its registry. Source: Microsoft's "Windows 11 release information": 21H2 is build 22000. */
const WINDOWS_11_BUILD = 22_000
/** Of \EFI: a real one has a handful. */
const LOADER_FOLDERS_MAX = 100

/** By the titles of `src/volume`: forms of volumes that one of the two makes, and the other hardly does. */
const TYPES_BY_TITLE: ReadonlyMap<string, OsType> = new Map<string, OsType>([
  ...[
    ...[
      'ext4 with its journal on another disk',
      'a journal of ext4',
      'XFS',
      'btrfs',
      'f2fs',
      'JFS',
      'ReiserFS',
    ],
    ...['nilfs2', 'bcachefs', 'bcache', 'LVM', 'LUKS', 'Linux RAID', 'DRBD', 'Linux swap of an old form'],
    'Linux swap with a hibernated system',
  ].map((title) => [title, 'Linux'] as const),
  ...['BitLocker', 'ReFS', 'Microsoft reserved', 'a Windows dynamic disk', 'Windows storage spaces'].map(
    (title) => [title, 'Windows'] as const,
  ),
])

/** Looks for a system on a disk and at how it starts. Pure but for reading; what is refused there says less. */
export async function findOnDisk(disk: SeenDisk): Promise<DiskFinding> {
  let system: System | undefined
  let likely: OsType | undefined
  let hasLoader = false
  for (const volume of disk.volumes) {
    likely ??= typeOf(volume)
    const files = await readable(async () => await volume.openFiles?.())
    if (files === undefined) continue
    if (files.type === 'vfat') hasLoader ||= (await readable(() => hasEfiLoader(files))) ?? false
    else system ??= await readable(() => findSystem(files))
  }
  const firmware = firmwareOf(disk, hasLoader)
  return {
    ...(system ?? (likely && { osType: likely })),
    ...(firmware && { firmware }),
    isSystem: system !== undefined,
  }
}

/** What disks say together, the system disk first, which alone tells how the machine starts. */
export function joinFindings(findings: readonly DiskFinding[]): FoundSystem {
  const { osType, osName } =
    findings.find(({ isSystem }) => isSystem) ?? findings.find((one) => one.osType !== undefined) ?? {}
  const firmware = findings[0]?.firmware
  return { ...(osType && { osType }), ...(osName && { osName }), ...(firmware && { firmware }) }
}

/** A name without what no name has: control characters, also those that turn text around. Undefined where too little or much is left. */
export function plainName(text: string): string | undefined {
  const plain = text
    .toWellFormed()
    .replace(/[\p{Cc}\p{Cf}\p{Z}]+/gu, ' ')
    .trim()
  return plain === '' || plain.length > NAME_LENGTH_MAX ? undefined : plain
}

function typeOf({ kind, title }: SeenVolume): OsType | undefined {
  if (kind === 'ntfs') return 'Windows'
  return kind === 'ext4' || kind === 'swap' ? 'Linux' : TYPES_BY_TITLE.get(title)
}

/**
 * Disks that can be started both ways are made for machines without a word on it, which start by BIOS. The code in the first
 * sector of a GPT says nothing alone: Windows writes it there too, and GRUB's goes on in a partition of its own.
 */
function firmwareOf({ scheme, hasCode, volumes }: SeenDisk, hasLoader: boolean): FoundSystem['firmware'] {
  const hasBootPartition = volumes.some((one) => one.kind === 'boot-code' && one.hasCode)
  const isBios = scheme === 'gpt' ? hasCode && hasBootPartition : scheme === 'mbr' && hasCode
  if (isBios) return 'bios'
  return hasLoader ? 'uefi' : undefined
}

/** \EFI\BOOT\BOOTX64.EFI or any other that lies so. */
async function hasEfiLoader(files: FileSystem): Promise<boolean> {
  const folders = ((await files.list(['EFI'])) ?? []).filter(({ kind }) => kind === 'directory')
  for (const { name } of folders.slice(0, LOADER_FOLDERS_MAX)) {
    const inside = (await files.list(['EFI', name])) ?? []
    if (inside.some((one) => one.kind === 'file' && /\.efi$/i.test(one.name))) return true
  }
  return false
}

async function findSystem(files: FileSystem): Promise<System | undefined> {
  return files.type === 'ntfs' ? await findWindows(files) : await findLinux(files)
}

/** Source: os-release(5): the first of the two files counts. */
async function findLinux(files: FileSystem): Promise<System | undefined> {
  const tree = new Tree({ index: 0, diskIndex: 0, partition: 0, files })
  for (const path of RELEASE_PATHS) {
    const place = await tree.resolve(path)
    if (place?.facts.kind !== 'file') continue
    const text = (await files.read(place.path, RELEASE_BYTES_MAX))?.toString('utf8') ?? ''
    const osName = plainName(variableOf(text, 'PRETTY_NAME') ?? variableOf(text, 'NAME') ?? '')
    return { osType: 'Linux', ...(osName && { osName }) }
  }
  return undefined
}

/** Lines as a shell has them, the last one of a name counting, with nothing to be replaced in them. */
function variableOf(text: string, name: string): string | undefined {
  const line = text
    .split('\n')
    .map((one) => one.trim())
    .findLast((one) => one.startsWith(`${name}=`))
  const value = line?.slice(name.length + 1).trim()
  const [, single] = /^'([^']*)'$/.exec(value ?? '') ?? []
  if (single !== undefined) return single
  const [, double = value] = /^"(.*)"$/.exec(value ?? '') ?? []
  return double?.replace(/\\(["'$`\\])/g, '$1')
}

async function findWindows(files: FileSystem): Promise<System | undefined> {
  const path = [...CONFIG_PATH, 'SOFTWARE']
  const facts = await files.stat(path)
  if (facts?.kind !== 'file' || facts.sizeBytes === 0) return undefined
  const name = await readable(async () => {
    const bytes = facts.sizeBytes > HIVE_BYTES_MAX ? undefined : await files.read(path, HIVE_BYTES_MAX)
    return bytes && windowsName(parseHive(bytes))
  })
  return { osType: 'Windows', osName: name ?? 'Windows' }
}

/** Also of a registry that was not closed: what a Windows is called changes when it is installed anew, and hardly else. */
function windowsName(hive: Hive): string | undefined {
  const textOf = (name: string): string => {
    const value = hive.value(CURRENT_VERSION, name)
    return typeof value === 'string' ? value : ''
  }
  const build = /^\d{1,9}$/.test(textOf('CurrentBuild')) ? Number(textOf('CurrentBuild')) : 0
  const product = textOf('ProductName')
  const named = build >= WINDOWS_11_BUILD ? product.replace(/^Windows 10\b/, 'Windows 11') : product
  return named === '' ? undefined : plainName(`${named} ${textOf('DisplayVersion')}`)
}

/** Undefined for what is refused. Other faults, and bugs, are thrown. */
export async function readable<Value>(work: () => Promise<Value>): Promise<Value | undefined> {
  try {
    return await work()
  } catch (error) {
    if (isFault(error, 'conflict') && error.subject === 'volume') return undefined
    throw error
  }
}
