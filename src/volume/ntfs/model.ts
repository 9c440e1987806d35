import type { Medium } from '../contract.ts'

/** Types of attributes, in the order in which a record holds them. Source: [MS-FSCC] 2.4, Linux-NTFS documentation. */
export const ATTRIBUTE = {
  standardInformation: 0x10,
  attributeList: 0x20,
  fileName: 0x30,
  objectId: 0x40,
  securityDescriptor: 0x50,
  volumeName: 0x60,
  volumeInformation: 0x70,
  data: 0x80,
  indexRoot: 0x90,
  indexAllocation: 0xa0,
  bitmap: 0xb0,
  reparsePoint: 0xc0,
  eaInformation: 0xd0,
  ea: 0xe0,
  loggedUtilityStream: 0x100,
  end: 0xffffffff,
} as const

/** Numbers of the records that are the file system's own. */
export const RECORD = {
  mft: 0,
  mftMirror: 1,
  logFile: 2,
  volume: 3,
  attributeDefinitions: 4,
  root: 5,
  bitmap: 6,
  boot: 7,
  badClusters: 8,
  secure: 9,
  upcase: 10,
  extend: 11,
  /** Files of users begin here; what is below is the system's or set aside for it. */
  firstUser: 24,
} as const

/** The unit of update sequences, whatever the sector of the disk. */
export const STRIDE_BYTES = 512

export interface Geometry {
  readonly sectorBytes: number
  readonly clusterBytes: number
  readonly recordBytes: number
  /** Of an index block of a directory, as the boot sector says; each index root says it for itself. */
  readonly indexBytes: number
  /** Sectors × sector size. The backup of the boot sector lies right behind, in the last sector of the partition. */
  readonly sizeBytes: number
  /** Whole clusters in `sizeBytes`. */
  readonly clusterCount: number
  readonly mftLcn: number
  readonly mftMirrorLcn: number
  /** 16 hex digits, upper case, as blkid prints it. */
  readonly serial: string
}

/** Clusters of a stream. `lcn` is null for a hole. */
export interface Run {
  readonly vcn: number
  readonly lcn: number | null
  readonly length: number
}

/** Where one part of an attribute stands: its header is at `offset` of the raw bytes of record `record`. */
export interface Piece {
  readonly record: number
  readonly offset: number
  /** Of header, name, value or run list, as the header says. */
  readonly lengthBytes: number
}

/** One attribute of a file, with the parts that lie in extension records joined. */
export interface Attribute {
  readonly type: number
  readonly name: string
  readonly instance: number
  readonly isCompressed: boolean
  readonly isSparse: boolean
  readonly isEncrypted: boolean
  readonly isResident: boolean
  /** Resident: a view into the raw bytes of its record (writing to it changes them). Undefined for a non-resident one. */
  readonly value: Buffer | undefined
  /** Non-resident: all runs in order of vcn, without gaps, checked to lie in the volume and to be as long as `allocatedBytes` at least. */
  readonly runs: readonly Run[]
  /** All three are the length of the value if it is resident. `dataBytes` is the size of the stream; from `initializedBytes` on it reads as zeroes. */
  readonly allocatedBytes: number
  readonly dataBytes: number
  readonly initializedBytes: number
  /** In clusters; 0 if not compressed. */
  readonly compressionUnit: number
  /** In order of vcn; the first has the sizes. */
  readonly pieces: readonly Piece[]
}

/** One record of the MFT whose signature and update sequence are right. */
export interface FileRecord {
  readonly number: number
  readonly sequence: number
  readonly isInUse: boolean
  readonly isDirectory: boolean
  /** It holds attributes that found no room in the record `base` (which may be 0, the MFT). */
  readonly isExtension: boolean
  readonly base: number
  readonly baseSequence: number
  readonly attributesOffset: number
  readonly bytesInUse: number
  /** `recordBytes` long, the update sequence undone. Change it and give it to `writeRecord`. */
  readonly raw: Buffer
}

/** A base record with its extensions and all their attributes. */
export interface NtfsFile {
  readonly record: FileRecord
  readonly extensions: readonly FileRecord[]
  /** In the order of the attribute list, or of the record. */
  readonly attributes: readonly Attribute[]
}

/** A bitmap of clusters or of records, in memory. */
export interface Bits {
  readonly bitCount: number
  /** May be longer than `bitCount` needs; what is beyond is as the volume has it. */
  readonly bytes: Buffer
  has(index: number): boolean
  set(index: number, length: number, value: boolean): void
  /** The first index >= `from` and below `end` (`bitCount` where it is left out) whose bit is `value`, or `end`. */
  next(from: number, value: boolean, end?: number): number
  isAll(index: number, length: number, value: boolean): boolean
}

/** What stands at one place of the MFT. */
export type Slot =
  | { readonly is: 'record'; readonly record: FileRecord }
  /** No signature of a file record, or one that was marked bad. `raw` as it lies on the medium. */
  | { readonly is: 'blank'; readonly number: number; readonly raw: Buffer }
  /** A file record whose update sequence does not fit: a write was torn. `raw` as it lies on the medium. */
  | { readonly is: 'torn'; readonly number: number; readonly raw: Buffer }

/**
 * An NTFS volume with its own files found: what reading, removal and scrubbing build on. Every method throws the refusals of
 * `../refuse.ts` for what the volume has wrong, and asserts on a number out of range from our own code.
 */
export interface Ntfs {
  readonly medium: Medium
  readonly geometry: Geometry
  /** How many records the MFT's initialized bytes hold. */
  readonly recordCount: number
  /** Of 65 536 code units. */
  readonly upcase: Uint16Array
  /** $MFT itself. */
  readonly mft: NtfsFile
  /** How many of the first records are in $MFTMirr too. */
  readonly mirrorCount: number
  readSlot(number: number): Promise<Slot>
  /** 'damaged' unless it is a whole record. */
  readRecord(number: number): Promise<FileRecord>
  /** All records in rising order, read in large pieces. `visit` may keep `raw` of a record only as a copy. */
  scan(visit: (slot: Slot) => void | Promise<void>): Promise<void>
  /** With a new update sequence; into the mirror as well where it belongs. */
  writeRecord(record: Pick<FileRecord, 'number' | 'raw'>): Promise<void>
  /** One record or several that follow one another, as they are to lie there (an update sequence done already); into the mirror as well. */
  writeSlot(number: number, raw: Buffer): Promise<void>
  /** The record must be an in-use base record. */
  readFile(number: number): Promise<NtfsFile>
  /** The same from a record that is already read. */
  toFile(record: FileRecord): Promise<NtfsFile>
  /** Bytes [offset, offset + lengthBytes) of an attribute as stored: holes and uninitialized bytes are zero, nothing is decompressed. */
  readAttribute(attribute: Attribute, offset: number, lengthBytes: number): Promise<Buffer>
  /** Into the clusters of a non-resident attribute; within its allocated bytes, holes assert. */
  writeAttribute(attribute: Attribute, offset: number, bytes: Uint8Array): Promise<void>
  /** $Bitmap: one bit per cluster. Kept: a second call gives the same object. */
  clusters(): Promise<Bits>
  /** $MFT's $BITMAP: one bit per record. Kept too. */
  records(): Promise<Bits>
  /** Writes both back where they changed. */
  writeBitmaps(): Promise<void>
}

/** Finds an attribute by type and name ('' for none); undefined if there is none. */
export function findAttribute(file: NtfsFile, type: number, name = ''): Attribute | undefined {
  return file.attributes.find((one) => one.type === type && one.name === name)
}
