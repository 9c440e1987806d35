import type { Pace } from '../objects/pace.ts'
import type { ReadOnlyRegion } from './source.ts'

/** So many reads a second at least: what is limited to little goes on in small steps rather than now and then. */
const READS_PER_SECOND = 4
const READ_BYTES_MIN = 64 * 1024

/** The source, every read of whose objects waits for its turn in each of the lines. */
export function pacedSource(source: ReadOnlyRegion, paces: readonly Pace[]): ReadOnlyRegion {
  if (paces.length === 0) return source
  const { objects } = source
  return {
    ...bareSource(source),
    objects: {
      traits: objects.traits,
      size: (name, signal) => objects.size(name, signal),
      async get(name, offset, lengthBytes, signal) {
        for (const pace of paces) await pace.take(lengthBytes, signal)
        return objects.get(name, offset, lengthBytes, signal)
      },
    },
  }
}

/** How long one read should be at most. */
export function pacedBytesMax(paces: readonly Pace[], lengthBytes: number): number {
  const slowest = Math.min(Infinity, ...paces.map(({ bytesPerSecond }) => bytesPerSecond))
  return Math.max(READ_BYTES_MIN, Math.min(lengthBytes, Math.floor(slowest / READS_PER_SECOND)))
}

/** A source of which a member is to be replaced: those of a class are not copied by spreading. */
export function bareSource(source: ReadOnlyRegion): ReadOnlyRegion {
  return {
    objects: source.objects,
    getImage: (digest, signal) => source.getImage(digest, signal),
    getSecrets: (domain, signal) => source.getSecrets(domain, signal),
    locate: (ids, signal) => source.locate(ids, signal),
    ...(source.forget && {
      forget: async (name, offset, lengthBytes) => source.forget?.(name, offset, lengthBytes),
    }),
  }
}
