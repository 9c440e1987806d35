import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { Fault } from '../../image/fault.ts'
import type { BundleSource } from '../../store/bundle/objects.ts'
import { MapDisk } from '../../store/reader.ts'
import { refuseAnother } from '../file-identity.ts'
import type { FilePlace } from '../store-jobs.ts'
import { openRegion, type RegionPlace } from './region.ts'

/** Where a bundle is, as a thread is told: a blob with its region. */
export type BundlePlace = Exclude<FilePlace, { is: 'blob' }> | BlobPlace
type BlobPlace = Extract<FilePlace, { is: 'blob' }> & { readonly region: RegionPlace }

export interface OpenSource extends BundleSource {
  close(): Promise<void>
}

/**
 * Faults: 'absent' 'file' for one that is not there, 'invalid' 'file' for what is no file, 'conflict' 'file' for another one
 * than `place` names; 'unavailable'.
 */
export async function openSource(place: BundlePlace): Promise<OpenSource> {
  return place.is === 'file' ? openFile(place.path, place.identity) : openBlob(place)
}

async function openBlob({ region: regionPlace, map, sessionId }: BlobPlace): Promise<OpenSource> {
  const region = await openRegion(regionPlace)
  const disk = new MapDisk(region, map, sessionId)
  return {
    sizeBytes: map.sizeBytes,
    read: (offset, lengthBytes, signal) => disk.read(offset, lengthBytes, signal),
    async close() {
      await disk.close()
      region.close()
    },
  }
}

async function openFile(path: string, identity: string | undefined): Promise<OpenSource> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  // A pipe would keep us waiting for whoever writes to it, a link may lead anywhere.
  const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK).catch(translate)
  try {
    const found = await file.stat({ bigint: true })
    if (!found.isFile()) throw noFile('invalid')
    refuseAnother(identity, found)
    return {
      sizeBytes: Number(found.size),
      async read(offset, lengthBytes, signal) {
        signal?.throwIfAborted()
        const bytes = Buffer.allocUnsafe(lengthBytes)
        for (let at = 0; at < lengthBytes; ) {
          const { bytesRead } = await file
            .read(bytes, at, lengthBytes - at, offset + at)
            .catch((cause: unknown) => {
              throw new Fault('unavailable', 'The file cannot be read now.', { subject: 'file', cause })
            })
          // Somebody makes it shorter while we read.
          if (bytesRead === 0) {
            throw new Fault('invalid', 'The file changes while it is read. Wait until it is all there.', {
              subject: 'file',
              reason: 'truncated',
            })
          }
          at += bytesRead
        }
        return bytes
      },
      close: () => file.close(),
    }
  } catch (error) {
    await file.close()
    throw error
  }
}

function translate(cause: unknown): never {
  const { code } = cause as NodeJS.ErrnoException
  if (code === 'ENOENT' || code === 'ENOTDIR') throw noFile('absent', cause)
  if (code === 'ELOOP' || code === 'ENXIO') throw noFile('invalid', cause)
  throw new Fault('unavailable', 'The file cannot be opened. Let the server read it.', {
    subject: 'file',
    cause,
  })
}

function noFile(kind: 'absent' | 'invalid', cause?: unknown): Fault {
  const message =
    kind === 'absent'
      ? 'There is no such file. Put it into the import folder.'
      : 'This is no ordinary file. Put the file itself into the import folder, not a link to it.'
  return new Fault(kind, message, { subject: 'file', cause })
}
