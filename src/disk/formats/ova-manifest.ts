import { createHash } from 'node:crypto'
import type { ByteSource } from './contract.ts'
import { refuseFile } from './contract.ts'
import type { TarMember } from './tar.ts'
import { refuseArchive } from './tar-refuse.ts'

export const MANIFEST_BYTES_MAX = 64 * 1024
const PIECE_BYTES = 1024 * 1024

export interface ManifestEntry {
  readonly algorithm: 'sha1' | 'sha256' | 'sha512'
  readonly hex: string
}

/** Digests by name: one for each file, and none for a file that is not there. Throws 'archive'. */
export function parseManifest(bytes: Buffer, members: readonly TarMember[]): Map<string, ManifestEntry> {
  const entries = new Map<string, ManifestEntry>()
  const names = new Set(members.map(({ name }) => name))
  for (const line of bytes.toString('utf8').split(/\r?\n/)) {
    if (line.trim() === '') continue
    const [, word, name, digits] =
      /^(SHA(?:1|256|512)) ?\(([^()]{1,100})\) ?= ?([0-9A-Fa-f]{40,128})\s*$/.exec(line) ?? []
    if (word === undefined || name === undefined || digits === undefined) throw refuseManifest()
    const algorithm = word === 'SHA1' ? 'sha1' : word === 'SHA256' ? 'sha256' : 'sha512'
    const hexLength = { sha1: 40, sha256: 64, sha512: 128 }[algorithm]
    // Twice the same file, even with equal digests, is what somebody writes who hopes that two readers differ.
    if (digits.length !== hexLength || !names.has(name) || entries.has(name)) throw refuseManifest()
    entries.set(name, { algorithm, hex: digits.toLowerCase() })
  }
  return entries
}

/** Reads all that the manifest is about, in order. Throws 'checksum'. */
export async function verifyManifest(
  source: ByteSource,
  members: readonly TarMember[],
  entries: ReadonlyMap<string, ManifestEntry>,
  signal?: AbortSignal,
): Promise<void> {
  for (const member of members) {
    const entry = entries.get(member.name)
    if (entry === undefined) continue
    const hash = createHash(entry.algorithm)
    for (let at = 0; at < member.lengthBytes; at += PIECE_BYTES) {
      const lengthBytes = Math.min(PIECE_BYTES, member.lengthBytes - at)
      hash.update(await source.read(member.offset + at, lengthBytes, signal))
    }
    if (hash.digest('hex') !== entry.hex) {
      throw refuseFile(
        'checksum',
        'A file in the archive is not what its manifest (.mf) says: it was changed or damaged. Export the machine again.',
      )
    }
  }
}

function refuseManifest() {
  return refuseArchive('has a manifest (.mf) that cannot be understood or contradicts itself')
}
