import type { ServerResponse } from 'node:http'

export interface Sent {
  readonly sentBytes: number
  /** whole: all went out · left: the caller did not wait for all · failed: ours broke off, and `error` says why. */
  readonly end: 'whole' | 'left' | 'failed'
  readonly error?: unknown
}

/**
 * Sends an answer whose body goes out as it is made, no faster than the caller takes it; one that takes nothing for `idleMs` has left. A
 * piece is looked at until the next one is asked for, and no longer. The iterator is ended whatever happens. A body that breaks off, or is not as long as its head said (`lengthBytes`), cuts the
 * connection: nothing else tells a caller that what it has is not the whole.
 */
export async function sendStream(
  reply: ServerResponse,
  status: number,
  headers: Readonly<Record<string, string>>,
  bytes: AsyncIterable<Uint8Array>,
  { lengthBytes, idleMs }: { readonly lengthBytes: number | undefined; readonly idleMs: number },
): Promise<Sent> {
  const iterator = bytes[Symbol.asyncIterator]()
  const { socket } = reply
  const left = Promise.withResolvers<'left'>()
  const onClose = () => left.resolve('left')
  reply.once('close', onClose)
  if (reply.destroyed || socket === null) left.resolve('left')
  let sentBytes = 0
  let isDone = false

  const send = async (): Promise<Sent['end']> => {
    reply.writeHead(status, headers)
    for (;;) {
      const next = await Promise.race([iterator.next(), left.promise])
      if (next === 'left') return 'left'
      if (next.done === true) break
      sentBytes += next.value.length
      if (lengthBytes !== undefined && sentBytes > lengthBytes)
        throw new Error(`A body of ${lengthBytes} bytes goes on behind its end.`)
      if (next.value.length === 0) continue
      const taken = Promise.withResolvers<'taken'>()
      // The socket's own clock: it sees bytes go out of a large piece that is still not through.
      socket?.setTimeout(idleMs)
      // Not only until there is room for more: the piece's memory may be used for the next one.
      reply.write(next.value, (error) => {
        // Of a connection that is closing: that it is closed is told at once.
        if (error == null) taken.resolve('taken')
      })
      if ((await Promise.race([taken.promise, left.promise])) === 'left') return 'left'
      socket?.setTimeout(0)
    }
    isDone = true
    if (lengthBytes !== undefined && sentBytes !== lengthBytes)
      throw new Error(`A body of ${lengthBytes} bytes ended after ${sentBytes}.`)
    const finished = Promise.withResolvers<'whole'>()
    reply.once('finish', () => finished.resolve('whole'))
    // Not taken back: once the answer is out, Node sets the time of an idle connection itself.
    socket?.setTimeout(idleMs)
    reply.end()
    return await Promise.race([finished.promise, left.promise])
  }

  try {
    const end = await send()
    return { end, sentBytes }
  } catch (error) {
    const end = reply.destroyed ? 'left' : 'failed'
    reply.destroy()
    return { end, sentBytes, error }
  } finally {
    reply.off('close', onClose)
    // Not waited for: a source in the middle of a read ends when that does.
    if (!isDone) void Promise.resolve(iterator.return?.()).catch(() => undefined)
  }
}
