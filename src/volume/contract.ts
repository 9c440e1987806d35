import type { Fault } from '../image/fault.ts'

/** The bytes of a disk, or of a part of one. Whatever is asked for lies inside [0, sizeBytes); else it asserts. */
export interface Medium {
  readonly sizeBytes: number
  /** Exactly `lengthBytes` fresh bytes. */
  read(offset: number, lengthBytes: number): Promise<Buffer>
  write(offset: number, bytes: Uint8Array): Promise<void>
  /**
   * From now on the range reads as zeroes. Costs next to nothing where it does already, and little whatever its length. How
   * many of its bytes may have held something: all but those that are known to have read as zeroes before.
   */
  zero(offset: number, lengthBytes: number): Promise<number>
  /**
   * The parts of a range that may hold anything, in disk order; all else in it reads as zeroes. A medium that cannot tell
   * does not have this.
   */
  dataRuns?(offset: number, lengthBytes: number): AsyncIterable<Run>
}

export interface Run {
  readonly offset: number
  readonly lengthBytes: number
}

/** Names from the root down, as the file system spells them; [] is the root. */
export type Path = readonly string[]

export type FileKind = 'file' | 'directory' | 'link' | 'other'

/** `link`: a symbolic link, a junction or any other reparse point that names another place. */
export interface DirectoryEntry {
  readonly name: string
  readonly kind: FileKind
}

export interface FileFacts {
  readonly kind: FileKind
  readonly sizeBytes: number
  /** How many names it has. */
  readonly linkCount: number
  /** Owner and permissions where the file system has them in this form (ext4). */
  readonly uid?: number
  readonly gid?: number
  readonly mode?: number
}

/** What a tree is made of; itself is counted too, links are not followed, a file with two names in it counts once. */
export interface TreeSize {
  readonly fileCount: number
  readonly directoryCount: number
  readonly bytes: number
}

/**
 * Files of one volume, for reading. Names of NTFS and FAT are compared without regard to case (as the volume itself
 * does), those of ext4 exactly. Names of ext4 that are not UTF-8 have U+DC80 to U+DCFF in place of their odd bytes.
 * Hostile volumes are expected: directories in circles, absurd counts and sizes end in a refusal (below), never in a
 * hang, a crash or unbounded memory.
 */
export interface FileSystem {
  readonly type: 'ntfs' | 'ext4' | 'vfat'
  readonly label: string
  /** As `blkid` prints it; '' if there is none. */
  readonly uuid: string
  /** Without '.' and '..', and without NTFS's own files ('$MFT' …; '$Recycle.Bin' is listed) and 8.3 aliases. Undefined where there is no such directory. */
  list(path: Path): Promise<readonly DirectoryEntry[] | undefined>
  /** Undefined where there is nothing. Does not follow links. */
  stat(path: Path): Promise<FileFacts | undefined>
  /** The first `bytesMax` bytes of a file at most. Undefined where there is no such file, or its bytes cannot be told (encrypted, compressed in a way that is not read). */
  read(path: Path, bytesMax: number): Promise<Buffer | undefined>
  /** Where a link points, as it is written there. */
  readLink(path: Path): Promise<string | undefined>
  /** Of a directory all that lies beneath, of anything else itself. */
  measure(path: Path): Promise<TreeSize>
}

/** A change of one volume. Paths are of things that are there, but for `write` and `link`. */
export type Edit =
  /** It goes, with everything beneath; links go, what they point to stays. */
  | { readonly is: 'remove'; readonly path: Path }
  /** A directory stays, with owner and mode, and all in it goes; a file stays and has no bytes. */
  | { readonly is: 'empty'; readonly path: Path }
  /** A file keeps its size and its place; all its bytes but the first `keepBytes` become zeroes. */
  | { readonly is: 'blank'; readonly path: Path; readonly keepBytes: number }
  /** A small file, owned by root, new or in place of another; missing folders are made. ext4 alone. */
  | { readonly is: 'write'; readonly path: Path; readonly content: string; readonly mode: number }
  /** A symbolic link, new or in place of another. ext4 alone. */
  | { readonly is: 'link'; readonly path: Path; readonly target: string }
  /** Keys go out of a registry hive, with all beneath, in place. NTFS alone. */
  | { readonly is: 'registry'; readonly path: Path; readonly keys: readonly (readonly string[])[] }

/** What scrubbing made zero, by kind of place ('free clusters', 'file records', 'journal' …). */
export type Scrubbed = ReadonlyMap<string, { readonly count: number; readonly bytes: number }>

/** A volume that can be cleaned. */
export interface CleanVolume {
  readonly files: FileSystem
  readonly sizeBytes: number
  /** Bytes that no file uses. */
  readonly freeBytes: number
  /**
   * Carries the edits out, all of them, in the medium. NTFS and FAT: every kind they have; ext4: `blank` alone, the others
   * are done in the appliance and asking for them asserts. `files` is void afterwards: open the volume again.
   */
  apply(edits: readonly Edit[]): Promise<void>
  /**
   * Makes every byte zero that belongs to nothing that is there: free space, what is left of removed names and records,
   * the ends of clusters, logs and journals. Nothing that is there changes, and a second call finds nothing to do: run
   * over a medium that compares instead of writing, it is the proof that nothing is left.
   */
  scrub(): Promise<Scrubbed>
}

/**
 * Why a volume cannot be cleaned: the `reason` of a Fault 'conflict' with subject 'volume'. Its message says what to do
 * next and never carries a name from inside the volume.
 */
export type RefusalReason =
  | 'hibernated'
  | 'fast-startup'
  | 'dirty'
  | 'encrypted'
  | 'unsupported'
  | 'damaged'
  | 'full'
  | 'too-large'

/** A Fault of that form. */
export type Refusal = Fault & { readonly subject: 'volume'; readonly reason: RefusalReason }

/** What a part of a disk is. Only the first three can be cleaned file by file. */
export type VolumeKind =
  | 'ntfs'
  | 'ext4'
  | 'vfat'
  /** Linux swap: all but its header goes. */
  | 'swap'
  /** All zeroes, or a partition that by its type holds nothing (Microsoft reserved): made zero. */
  | 'empty'
  /** Boot code that is no file system (BIOS boot partition): kept. */
  | 'boot-code'
  /** Anything else. `FoundVolume.title` says what ("BitLocker", "LUKS", "LVM", "XFS", "an unknown file system"). */
  | 'other'

export interface FoundVolume extends Run {
  /** Of its partition in the table; 0 for a disk without one. */
  readonly partition: number
  readonly kind: VolumeKind
  /** For people: 'NTFS', 'ext4', 'BitLocker' … */
  readonly title: string
  /** For 'other': how the refusal is sorted. */
  readonly reason?: RefusalReason
}

export interface DiskLayout {
  readonly scheme: 'gpt' | 'mbr' | 'none'
  /** In disk order; none overlaps another. */
  readonly volumes: readonly FoundVolume[]
  /** Outside of volumes and tables, and not boot code: nothing there is anybody's. */
  readonly gaps: readonly Run[]
}
