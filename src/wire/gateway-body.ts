import type { IncomingMessage } from 'node:http'

export interface Upload {
  /** The whole body, or its first `limitBytes` when it was larger. */
  readonly body: Buffer
  readonly end: 'whole' | 'too-large' | 'aborted'
}

/**
 * Reads a request's body. What is over the limit is read and dropped for a while, because a caller that is still
 * sending when the connection closes never reads why; `drainBytes` bounds how long we listen to that.
 */
export async function readUpload(
  incoming: IncomingMessage,
  limitBytes: number,
  drainBytes: number,
): Promise<Upload> {
  const kept: Buffer[] = []
  let sizeBytes = 0
  try {
    // destroyOnReturn off: leaving early must not take the socket with it, the answer has to go out there.
    for await (const chunk of incoming.iterator({ destroyOnReturn: false })) {
      const bytes = chunk as Buffer
      const room = limitBytes - sizeBytes
      if (room > 0) kept.push(room >= bytes.length ? bytes : bytes.subarray(0, room))
      sizeBytes += bytes.length
      if (sizeBytes > limitBytes + drainBytes) break
    }
  } catch {
    return { body: Buffer.concat(kept), end: 'aborted' }
  }
  return { body: Buffer.concat(kept), end: sizeBytes > limitBytes ? 'too-large' : 'whole' }
}
