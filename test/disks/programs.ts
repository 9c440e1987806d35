import { execFile } from 'node:child_process'
import { open } from 'node:fs/promises'
import { promisify } from 'node:util'

const environment = { ...process.env, LC_ALL: 'C.UTF-8', PATH: `${process.env.PATH}:/usr/sbin:/sbin` }
const OUTPUT_BYTES_MAX = 256 * 1024 ** 2
const MIB = 1024 ** 2

/** What a program prints. Throws an error that has its words. */
export async function run(program: string, args: readonly string[], input?: string): Promise<string> {
  const running = promisify(execFile)(program, args, { env: environment, maxBuffer: OUTPUT_BYTES_MAX })
  running.child.stdin?.on('error', () => {})
  running.child.stdin?.end(input)
  return (await running).stdout
}

/** The same for bytes. */
export async function runForBytes(program: string, args: readonly string[]): Promise<Buffer> {
  const options = { env: environment, maxBuffer: OUTPUT_BYTES_MAX, encoding: 'buffer' } as const
  return (await promisify(execFile)(program, args, options)).stdout
}

export async function makeFile(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'w')
  await file.truncate(sizeBytes).finally(() => file.close())
}

/** Copies a whole file into another from `offset` on, a whole number of MiB; what is zero stays a hole. */
export async function copyInto(source: string, target: string, offset: number): Promise<void> {
  const seek = ['bs=1M', `seek=${offset / MIB}`, 'conv=sparse,notrunc', 'status=none']
  await run('dd', [`if=${source}`, `of=${target}`, ...seek])
}

/** The bytes [offset, offset + sizeBytes) of a file as a sparse file; both whole numbers of 512. */
export async function copyOut(
  source: string,
  offset: number,
  sizeBytes: number,
  target: string,
): Promise<void> {
  const bytes = ['iflag=skip_bytes,count_bytes', `skip=${offset}`, `count=${sizeBytes}`]
  await run('dd', [`if=${source}`, `of=${target}`, 'bs=1M', 'conv=sparse', 'status=none', ...bytes])
  const file = await open(target, 'r+')
  await file.truncate(sizeBytes).finally(() => file.close())
}

/** e2fsck ends with 1 when it has mended something. */
export function fixedIsFine(error: unknown): string {
  if ((error as { code?: number }).code === 1) return ''
  throw error
}
