import { writeFileSync } from 'node:fs'
import type { PeerPlace } from '../../src/peers/contract.ts'
import { fingerprintOf, makeIdentity, type PeerIdentity } from '../../src/peers/identity.ts'

export const PEER = 'source'
export const READER = 'target'
export const PROJECT = 'org-bench'

/** What the two ends of a copy over HTTPS know of each other, as a file for the processes that are them. */
export interface PeerFile {
  readonly theirs: PeerIdentity
  readonly ours: PeerIdentity
  /** The fingerprint of ours. */
  readonly reader: string
  /** Where the source answers; undefined until it does. */
  readonly url?: string
}

export function newPeerFile(path: string): PeerFile {
  const [theirs, ours] = [makeIdentity(), makeIdentity()]
  const file: PeerFile = { theirs, ours, reader: fingerprintOf(ours.certificate) }
  writePeerFile(path, file)
  return file
}

export function writePeerFile(path: string, file: PeerFile): void {
  writeFileSync(path, JSON.stringify(file), { mode: 0o600 })
}

export function placeOfPeer({ url, theirs, ours }: PeerFile): PeerPlace {
  if (url === undefined) throw new Error('the source does not answer yet')
  return { name: PEER, url, fingerprint: fingerprintOf(theirs.certificate), ...ours }
}
