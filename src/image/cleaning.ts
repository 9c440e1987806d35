import { Fault } from './fault.ts'

export type CleaningGroup = 'windows' | 'linux' | 'identity'

interface Operation {
  readonly name: string
  readonly group: CleaningGroup
  /** For people, as the end of "Takes away …". */
  readonly title: string
}

/**
 * Everything that cleaning may take away, each by a name that selects it. Free space, deleted files and the journals of
 * file systems are made zero whatever is selected.
 */
export const CLEANING_OPERATIONS = [
  {
    name: 'profiles',
    group: 'windows',
    title:
      'the directories under \\Users but Administrator, Public and the default ones, and their entries in the list of profiles',
  },
  { name: 'recycle-bins', group: 'windows', title: 'what removed users have in recycle bins' },
  {
    name: 'shadow-copies',
    group: 'windows',
    title: 'System Volume Information: shadow copies, restore points, the index of links',
  },
  {
    name: 'paging-files',
    group: 'windows',
    title: 'the bytes of pagefile.sys, swapfile.sys and hiberfil.sys',
  },
  { name: 'memory-dumps', group: 'windows', title: 'memory dumps and crash reports' },
  { name: 'search-index', group: 'windows', title: "the search index, which holds users' texts" },
  { name: 'homes', group: 'linux', title: 'what ordinary users have in their home directories' },
  { name: 'mail', group: 'linux', title: 'mail spools' },
  { name: 'cron', group: 'linux', title: "users' cron tables and at jobs" },
  { name: 'temporary-files', group: 'linux', title: '/tmp and /var/tmp' },
  { name: 'swap', group: 'linux', title: 'the bytes of swap partitions and swap files' },
  { name: 'machine-id', group: 'identity', title: 'the machine id' },
  { name: 'ssh-host-keys', group: 'identity', title: 'the SSH host keys' },
  { name: 'random-seed', group: 'identity', title: 'the random seed' },
  { name: 'dhcp-leases', group: 'identity', title: 'DHCP leases and ids' },
  {
    name: 'network-names',
    group: 'identity',
    title: 'what udev and NetworkManager remember of network cards',
  },
  { name: 'cloud-init', group: 'identity', title: "cloud-init's memory of the instance" },
  { name: 'logs', group: 'identity', title: 'logs and journals' },
  { name: 'logins', group: 'identity', title: 'who logged in when (utmp, wtmp, btmp, lastlog)' },
  { name: 'histories', group: 'identity', title: "root's shell and tool histories" },
  { name: 'crash-dumps', group: 'identity', title: 'crash dumps and core files' },
  {
    name: 'password-backups',
    group: 'identity',
    title: 'backup copies of passwd, shadow, group and gshadow',
  },
  { name: 'package-caches', group: 'identity', title: 'caches of package managers' },
  { name: 'subscriptions', group: 'identity', title: "ids and certificates of the vendor's subscription" },
] as const satisfies readonly Operation[]

export type CleaningOperation = (typeof CLEANING_OPERATIONS)[number]['name']

/** What a cleaning is to do. */
export interface CleaningWish {
  /** Never empty, in the order above. */
  readonly operations: readonly CleaningOperation[]
  /** What cannot be cleaned is left as it is and told in the report, instead of refusing the image. */
  readonly isBestEffort: boolean
  /** What becomes of an image in which a private key or a token is found in what is kept. */
  readonly onSecrets: 'report' | 'refuse'
}

export const ALL_OPERATIONS: readonly CleaningOperation[] = CLEANING_OPERATIONS.map(({ name }) => name)

/** What is meant where a request says no more than that the image is to be cleaned. */
export const CLEAN_ALL: CleaningWish = {
  operations: ALL_OPERATIONS,
  isBestEffort: false,
  onSecrets: 'report',
}

const GROUPS: readonly CleaningGroup[] = ['windows', 'linux', 'identity']

/**
 * A selection as it is written: words between commas, each a group, an operation or 'all'; with '-' before it what is left out
 * of the words before it, or of all if it comes first. '' and 'all' are everything. Throws Fault 'invalid' that names the word.
 */
export function parseOperations(text: string, field: string): readonly CleaningOperation[] {
  const words = text
    .split(',')
    .map((word) => word.trim().toLowerCase())
    .filter((word) => word !== '')
  const chosen = new Set<CleaningOperation>(
    words[0] === undefined || words[0].startsWith('-') ? ALL_OPERATIONS : [],
  )
  for (const word of words) {
    const isOut = word.startsWith('-')
    const name = isOut ? word.slice(1) : word
    const meant = CLEANING_OPERATIONS.filter(
      (one) => name === 'all' || one.group === name || one.name === name,
    )
    if (meant.length === 0) {
      throw new Fault(
        'invalid',
        `There is no cleaning '${name}'. Name ${GROUPS.join(', ')}, all, or one of ${ALL_OPERATIONS.join(', ')}; '-' before a word leaves it out.`,
        { field },
      )
    }
    for (const one of meant) {
      if (isOut) chosen.delete(one.name)
      else chosen.add(one.name)
    }
  }
  if (chosen.size === 0) {
    throw new Fault(
      'invalid',
      'The selection leaves nothing to clean. Leave it out to make the image as it is.',
      { field },
    )
  }
  return ALL_OPERATIONS.filter((name) => chosen.has(name))
}

/** A thing of a report lies on `volume`, a position in the report's list of volumes. Paths are as the system shows them. */
interface Placed {
  readonly volume: number
  readonly path: string
}

export interface RemovedItem extends Placed {
  readonly operation: CleaningOperation
  /** 'removed', 'emptied', 'blanked' (same size, all zeroes), 'written' (what makes a fresh identity), 'unregistered' (out of the registry). */
  readonly how: 'removed' | 'emptied' | 'blanked' | 'written' | 'unregistered'
  readonly fileCount: number
  readonly directoryCount: number
  readonly bytes: number
  /**
   * What it was made of: folders of well-known names (Desktop, Documents, .ssh …), and 'other' for all else. No other name
   * from inside is told: it may be as private as the content (I6).
   */
  readonly parts: readonly { readonly name: string; readonly fileCount: number; readonly bytes: number }[]
}

export interface KeptItem extends Placed {
  readonly why: string
}

/** A secret in what is kept: where and of what kind, never its bytes. */
export interface FoundSecret extends Placed {
  readonly kind: string
}

export interface ReportedVolume {
  readonly diskIndex: number
  /** 0 for a disk without a partition table. */
  readonly partition: number
  readonly title: string
  readonly label: string
  readonly sizeBytes: number
  /** 'cleaned': all that was asked for; 'left': as it is, `why` tells; 'kept': there is nothing of anybody's in it. */
  readonly outcome: 'cleaned' | 'left' | 'kept'
  readonly why: string
  /** Made zero, by kind of place. */
  readonly scrubbed: readonly { readonly what: string; readonly count: number; readonly bytes: number }[]
}

/** 'Disk 0, partition 2': the system disk is 0, everywhere; 'Disk 0' for a disk without a partition table. */
export function describePlace({
  diskIndex,
  partition,
}: Pick<ReportedVolume, 'diskIndex' | 'partition'>): string {
  return `Disk ${diskIndex}${partition > 0 ? `, partition ${partition}` : ''}`
}

export interface CleaningReport {
  readonly version: 1
  readonly isDryRun: boolean
  /** ISO 8601, UTC. */
  readonly madeAt: string
  readonly durationMs: number
  readonly wish: CleaningWish
  /** By name: calotype, qemu, kernel, e2fsprogs. */
  readonly tools: Readonly<Record<string, string>>
  readonly volumes: readonly ReportedVolume[]
  /** Gaps between volumes, and everything of a disk that is no volume's. */
  readonly gapBytes: number
  readonly removed: readonly RemovedItem[]
  readonly kept: readonly KeptItem[]
  readonly secrets: readonly FoundSecret[]
  readonly warnings: readonly string[]
  readonly removedFileCount: number
  readonly removedBytes: number
  readonly scrubbedBytes: number
  /** How long each phase took, in milliseconds. */
  readonly phases: Readonly<Record<string, number>>
}

/** A report with proof of who made it: Ed25519 over the canonical JSON of `report`. */
export interface SignedReport {
  readonly report: CleaningReport
  readonly signature: {
    readonly algorithm: 'ed25519'
    /** The first 16 hex digits of the SHA-256 of the public key's raw bytes. */
    readonly keyId: string
    /** Hex of the raw 32 bytes. */
    readonly publicKey: string
    readonly value: string
  }
}

/** The report in one line, for lists. */
export interface CleaningSummary {
  readonly removedFileCount: number
  readonly removedBytes: number
  readonly scrubbedBytes: number
  /** Volumes that could not be cleaned and are as they were. */
  readonly leftVolumeCount: number
  readonly secretCount: number
  /** Not everything that cleaning knows was asked for. */
  readonly isPartial: boolean
}

export function summaryOf(report: CleaningReport): CleaningSummary {
  const { removedFileCount, removedBytes, scrubbedBytes, volumes, secrets } = report
  const leftVolumeCount = volumes.filter(({ outcome }) => outcome === 'left').length
  const isPartial = ALL_OPERATIONS.some((name) => !report.wish.operations.includes(name))
  const counts = { removedFileCount, removedBytes, scrubbedBytes, leftVolumeCount }
  return { ...counts, secretCount: secrets.length, isPartial }
}
