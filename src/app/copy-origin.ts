import type { Rows } from '../catalog/contract.ts'
import type { CopySource } from '../image/copy.ts'
import { Fault, isFault } from '../image/fault.ts'
import type { Digest, ImageId, ProjectId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import type { PeerImage } from '../peers/contract.ts'
import type { CopyWish } from './copy-contract.ts'
import { findImage } from './find.ts'
import type { Parts } from './parts.ts'

/** A peer that does not answer keeps nobody waiting who asks. */
const PEER_MS_MAX = 30_000

/** What is copied: all that its copies' rows and tasks need of it. */
export interface CopyOrigin {
  readonly source: CopySource
  /** Undefined for an image of another installation. */
  readonly own: { readonly projectId: ProjectId; readonly imageId: ImageId } | undefined
  /** Undefined while the image is not available. */
  readonly digest: Digest | undefined
  readonly facts: PeerImage['facts']
}

/** One that can be copied. */
export type CopyableOrigin = CopyOrigin & { readonly digest: Digest }

/** Faults: 'invalid' 'image' reason 'not-custom'; 'conflict' 'image' unless it is available. */
export function refuseUncopyable(image: Image): asserts image is Image & {
  readonly state: Extract<Image['state'], { at: 'available' }>
} {
  if (image.kind !== 'custom') {
    throw new Fault('invalid', 'Base images are in every region already; only custom images are copied.', {
      subject: 'image',
      reason: 'not-custom',
    })
  }
  if (image.state.at !== 'available') {
    throw new Fault('conflict', `The image is ${image.state.at}; it can be copied once it is available.`, {
      subject: 'image',
    })
  }
}

/** An image of ours, whatever its state. Fault 'absent' 'image'. */
export async function lookAtImage(
  rows: Rows,
  wish: CopyWish,
  projectId: ProjectId,
): Promise<CopyOrigin & { readonly image: Image }> {
  const image = await findImage(rows, { regionId: wish.regionId, imageId: wish.imageId, projectId })
  return {
    image,
    source: { is: 'region', regionId: image.regionId },
    own: { projectId: image.projectId, imageId: image.id },
    digest: image.state.at === 'available' ? image.state.digest : undefined,
    facts: image,
  }
}

/** An image of ours that can be copied now. Faults as of `lookAtImage` and `refuseUncopyable`. */
export async function findOrigin(rows: Rows, wish: CopyWish, projectId: ProjectId): Promise<CopyableOrigin> {
  const { image, ...origin } = await lookAtImage(rows, wish, projectId)
  refuseUncopyable(image)
  return { ...origin, digest: image.state.digest }
}

/**
 * Never in a transaction: the store is asked. The Fault 'corrupt' 'image' reason 'damaged' of an image of ours that its region
 * is seen or known not to have whole; it may have been deleted meanwhile.
 */
export async function findDamage(
  { sources }: Pick<Parts, 'sources'>,
  { source, digest }: CopyOrigin,
): Promise<Fault | undefined> {
  if (source.is !== 'region' || digest === undefined) return undefined
  try {
    await sources.refuseDamaged(source.regionId, digest)
    return undefined
  } catch (error) {
    if (isFault(error, 'corrupt')) return error
    throw error
  }
}

/** An image of another installation. Faults as of `Parts.peers`; 'unavailable' 'peer' if it takes too long. */
export async function askPeer(
  { peers }: Pick<Parts, 'peers'>,
  wish: CopyWish & { readonly peer: string },
): Promise<CopyableOrigin> {
  const signal = AbortSignal.timeout(PEER_MS_MAX)
  const image = await peers.image(wish.peer, wish.regionId, wish.imageId, signal).catch((error: unknown) => {
    if (!signal.aborted) throw error
    throw new Fault(
      'unavailable',
      `Peer ${wish.peer} does not answer. Look whether it runs and can be reached, and try again.`,
      { subject: 'peer', cause: error },
    )
  })
  return {
    source: { is: 'peer', peer: wish.peer, regionId: wish.regionId },
    own: undefined,
    digest: image.digest,
    facts: image.facts,
  }
}
