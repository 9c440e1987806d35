import { open } from 'node:fs/promises'
import { connect } from 'node:net'
import { Fault } from '../../image/fault.ts'
import { isErrno } from '../tools/durable.ts'

const TYPING_TIMEOUT_MS = 30_000

/** What the guest said since byte `fromByte` of all it ever said; empty if nothing new. */
export async function readConsoleLog(path: string, fromByte: number): Promise<Buffer> {
  try {
    const handle = await open(path, 'r')
    try {
      const { size } = await handle.stat()
      const buffer = Buffer.alloc(Math.max(0, size - fromByte))
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, fromByte)
      return buffer.subarray(0, bytesRead)
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return Buffer.alloc(0)
    throw error
  }
}

/**
 * Types `bytes`; resolves when the guest's serial port has taken them all. QEMU drops what it has not read when a
 * client hangs up, so only our sending side is closed: QEMU reads on at the guest's pace, then sees the end and closes.
 */
export function typeConsole(socketPath: string, bytes: Uint8Array): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const socket = connect({ path: socketPath, allowHalfOpen: true })
  const timer = setTimeout(
    () => socket.destroy(new Error('The guest does not take what is typed.')),
    TYPING_TIMEOUT_MS,
  )
  socket.once('error', (cause) => {
    reject(
      new Fault('unavailable', 'The serial console does not take input. Try again when the guest is up.', {
        subject: 'machine',
        cause,
      }),
    )
  })
  // The guest's words come here too; unread, they would hold the guest up. The log file has them all.
  socket.resume()
  socket.once('close', () => {
    clearTimeout(timer)
    resolve()
  })
  socket.end(bytes)
  return promise
}
