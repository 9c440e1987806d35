import type { Extent, Piece } from '../../disk/contract.ts'
import type { ByteSource } from '../../disk/formats/contract.ts'
import type { ServedDisk } from '../../disk/nbd-server-handshake.ts'
import { MapDisk } from '../../store/reader.ts'
import { identityOf, openPlain, refuseChanged } from '../file-identity.ts'
import type { FilePlace } from '../store-jobs.ts'
import { fileCut, fileSlabs } from './file-slabs.ts'
import { openRegion, type RegionPlace } from './region.ts'

/** A stranger's file, held open. */
export interface HeldFile extends ByteSource {
  /** Of the whole process; undefined for a blob. */
  readonly descriptor: number | undefined
  /** As of `Disk`: a blob has what it decoded in memory, and a path is read into memory that `sent` gives back. */
  pieces?(
    offset: number,
    lengthBytes: number,
    signal?: AbortSignal,
  ): readonly Piece[] | Promise<readonly Piece[]>
  sent?(pieces: readonly Piece[]): void
  /** What of it is zeroes for certain, where that is known. */
  extents(offset: number, lengthBytes: number, signal?: AbortSignal): Promise<Extent[]>
  /** Throws Fault 'conflict' 'file' if it was written to since it is held. Nobody writes to a blob. */
  refuseChanged?(): Promise<void>
  close(): Promise<void>
}

/**
 * Opens it once: whoever holds it reads the same file whatever becomes of its name. No link is followed, and nothing but a
 * regular file is a file. Faults 'absent' and 'invalid' 'file', 'conflict' 'file' for another one than `place` names; reads
 * give 'unavailable' 'file'.
 */
export async function holdFile(place: FilePlace, region: RegionPlace | undefined): Promise<HeldFile> {
  if (place.is === 'file') return holdPath(place.path, place.identity)
  if (region === undefined) throw new Error('a blob is in a region')
  const store = await openRegion(region)
  const disk = new MapDisk(store, place.map, place.sessionId)
  const sizeBytes = place.wholeBytes ?? disk.sizeBytes
  return {
    sizeBytes,
    descriptor: undefined,
    async read(offset, lengthBytes, signal) {
      const hereBytes = Math.max(0, Math.min(lengthBytes, disk.sizeBytes - offset))
      const here = hereBytes > 0 ? await disk.read(offset, hereBytes, signal) : Buffer.alloc(0)
      return hereBytes === lengthBytes ? here : Buffer.concat([here], lengthBytes)
    },
    pieces(offset, lengthBytes, signal) {
      const hereBytes = Math.max(0, Math.min(lengthBytes, disk.sizeBytes - offset))
      if (hereBytes === lengthBytes) return disk.pieces(offset, lengthBytes, signal)
      const rest = { lengthBytes: lengthBytes - hereBytes, bytes: undefined }
      const here = hereBytes > 0 ? disk.pieces(offset, hereBytes, signal) : []
      return here instanceof Promise ? here.then((pieces) => [...pieces, rest]) : [...here, rest]
    },
    extents: (offset, lengthBytes, signal) => disk.extents(offset, lengthBytes, signal),
    async close() {
      await disk.close()
      store.close()
    },
  }
}

async function holdPath(path: string, identity: string | undefined): Promise<HeldFile> {
  const { file, status } = await openPlain(path, identity)
  const held = identityOf(status)
  const slabs = fileSlabs()
  return {
    sizeBytes: Number(status.size),
    descriptor: file.fd,
    async read(offset, lengthBytes, signal) {
      signal?.throwIfAborted()
      const bytes = Buffer.allocUnsafe(lengthBytes)
      for (let at = 0; at < lengthBytes; ) {
        const { bytesRead } = await file.read(bytes, at, lengthBytes - at, offset + at)
        if (bytesRead === 0) throw fileCut()
        at += bytesRead
      }
      return bytes
    },
    pieces(offset, lengthBytes, signal) {
      signal?.throwIfAborted()
      return [{ lengthBytes, bytes: slabs.read(file.fd, offset, lengthBytes) }]
    },
    sent(pieces) {
      for (const { bytes } of pieces) if (bytes !== undefined) slabs.release(bytes)
    },
    extents: async (offset, lengthBytes) =>
      lengthBytes === 0 ? [] : [{ offset, lengthBytes, holds: 'data' }],
    async refuseChanged() {
      refuseChanged(held, await file.stat({ bigint: true }))
    },
    close: () => file.close(),
  }
}

/** A part of the file as a disk for our NBD server. */
export function diskOf(file: HeldFile, offset: number, lengthBytes: number): ServedDisk {
  const pieces = file.pieces?.bind(file)
  const sent = file.sent?.bind(file)
  return {
    sizeBytes: lengthBytes,
    read: (from, count, signal) => file.read(offset + from, count, signal),
    ...(pieces && { pieces: (from, count, signal) => pieces(offset + from, count, signal) }),
    ...(sent && { sent }),
    async extents(from, count, signal) {
      const found = await file.extents(offset + from, count, signal)
      return found.map((extent) => ({ ...extent, offset: extent.offset - offset }))
    },
    // The connections share the file.
    close: async () => {},
  }
}

/** All of it in pieces, read ahead of whoever takes them. Ends in Fault 'conflict' 'file' if it was written to meanwhile. */
export async function* piecesOf(
  file: ByteSource & Pick<HeldFile, 'refuseChanged'>,
  signal: AbortSignal,
  pieceBytes = 1024 * 1024,
): AsyncGenerator<Buffer> {
  const read = (offset: number) =>
    offset < file.sizeBytes
      ? file.read(offset, Math.min(pieceBytes, file.sizeBytes - offset), signal)
      : undefined
  let next = read(0)
  for (let offset = pieceBytes; next !== undefined; offset += pieceBytes) {
    const piece = await next
    next = read(offset)
    next?.catch(() => {})
    yield piece
  }
  await file.refuseChanged?.()
}
