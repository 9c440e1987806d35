import { chmod, rm } from 'node:fs/promises'
import { makeFile, run } from './programs.ts'

/** mkswap makes whole files; its one page is put in place. */
export async function writeSwapHeader(path: string, offset: number, sizeBytes: number): Promise<void> {
  const header = `${path}.swap`
  try {
    await makeFile(header, sizeBytes)
    await chmod(header, 0o600)
    await run('mkswap', ['-q', '-U', '0ca10764-0000-4000-8000-0000000000b2', header])
    const place = [`of=${path}`, 'bs=4096', 'count=1', `seek=${offset / 4096}`, 'conv=notrunc']
    await run('dd', [`if=${header}`, ...place, 'status=none'])
  } finally {
    await rm(header, { force: true })
  }
}
