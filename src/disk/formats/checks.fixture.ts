import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import type { TestContext } from 'node:test'
import { isFault } from '../../image/fault.ts'
import { runTool } from '../fixture.ts'
import type { ByteSource, RefusalReason } from './contract.ts'

/** What the tests of this folder share: the refusal of a file, a file as a source, and what QEMU says of one. */

/** Fails unless `work` ends in exactly this refusal, with a sentence that says what to do. */
export async function refused(reason: RefusalReason, work: () => Promise<unknown>): Promise<void> {
  const error = await work().then(
    (value) => assert.fail(`It was taken, not refused '${reason}': ${JSON.stringify(value)}`),
    (thrown: unknown) => thrown,
  )
  if (!isFault(error, 'invalid') || error.subject !== 'file') throw error
  assert.equal(error.reason, reason, error.message)
  assert.match(error.message, /^[A-Z].*[.:]./s)
  assert.match(error.message, /[.]$/)
}

/** A file of the disk, open until the test ends. */
export async function fileSource(t: TestContext, path: string): Promise<ByteSource> {
  const handle = await open(path, 'r')
  t.after(() => handle.close())
  const { size } = await handle.stat()
  return {
    sizeBytes: size,
    read: async (offset, lengthBytes) => {
      const bytes = Buffer.alloc(lengthBytes)
      const { bytesRead } = await handle.read(bytes, 0, lengthBytes, offset)
      assert.equal(bytesRead, lengthBytes)
      return bytes
    },
  }
}

/** What QEMU says of a file that it is told the format of. */
export async function qemuInfo(
  path: string,
  format: string,
): Promise<{
  readonly format: string
  readonly virtualBytes: number
  readonly otherFiles: readonly string[]
}> {
  const info = JSON.parse(
    await runTool('timeout', ['20', 'qemu-img', 'info', '--output=json', '-f', format, path]),
  ) as Record<string, unknown>
  const specific = JSON.stringify(info['format-specific'] ?? {})
  return {
    format: String(info.format),
    virtualBytes: Number(info['virtual-size']),
    otherFiles: [
      ...('backing-filename' in info ? ['backing file'] : []),
      ...(specific.includes('"data-file"') ? ['data file'] : []),
    ],
  }
}
