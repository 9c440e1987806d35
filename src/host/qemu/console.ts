import { open, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { Fault } from '../../image/fault.ts'
import { CONSOLE_ANSWER_BYTES_MAX, CONSOLE_KEPT_BYTES, type ConsoleText } from '../contract.ts'
import { fileFault, isErrno } from '../tools/durable.ts'
import { runTool } from '../tools/run.ts'

const TYPING_TIMEOUT_MS = 30_000

/** Cut off at once, and also how far a cut stays behind what is still read, for readers that are under way. */
const CUT_BYTES = 4 * 1024 * 1024

/** As `Host.readConsole`, from the log that QEMU appends to. */
export async function readConsoleLog(path: string, fromByte: number): Promise<ConsoleText> {
  try {
    const handle = await open(path, 'r')
    try {
      const { size } = await handle.stat()
      const start = Math.max(fromByte, size - CONSOLE_KEPT_BYTES)
      const buffer = Buffer.alloc(Math.min(Math.max(0, size - start), CONSOLE_ANSWER_BYTES_MAX))
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, start)
      return { fromByte: start, bytes: buffer.subarray(0, bytesRead) }
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return { fromByte, bytes: Buffer.alloc(0) }
    throw fileFault(error, 'Reading the console')
  }
}

/**
 * Gives the disk back what is older than the newest CONSOLE_KEPT_BYTES, so that a guest that speaks for ever does not
 * fill it. QEMU goes on appending: a hole leaves the file's size, and with it the number of every byte, as it was,
 * where truncating would count them from 0 again. Answers up to where the log is cut, `cutBytes` being the last answer.
 */
export async function cutConsoleLog(path: string, cutBytes: number): Promise<number> {
  const size = (await findSizeBytes(path)) ?? 0
  const end = Math.floor((size - CONSOLE_KEPT_BYTES) / CUT_BYTES - 1) * CUT_BYTES
  if (end <= cutBytes) return cutBytes
  await runTool('fallocate', ['--punch-hole', '--offset', '0', '--length', String(end), path], {
    doing: 'Cutting a console log',
    package: 'util-linux',
    timeoutMs: 30_000,
  })
  return end
}

async function findSizeBytes(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw fileFault(error, 'Looking at the console')
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
