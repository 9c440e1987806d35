import { rm, writeFile } from 'node:fs/promises'
import { run } from './programs.ts'
import { full, type Tokens } from './tokens.ts'

/** \$Extend\$UsnJrnl with names of files in its records, as Windows keeps it; the driver would not let us. */
export async function plantJournal(volume: string, tokens: Tokens): Promise<void> {
  const path = `${volume}.journal`
  try {
    await writeFile(path, '')
    await run('ntfscp', ['-f', '-q', volume, path, '$Extend/$UsnJrnl'])
    await writeFile(path, full(tokens.newGone('usn'), 100_000))
    await run('ntfscp', ['-f', '-q', '-N', '$J', volume, path, '$Extend/$UsnJrnl'])
    await writeFile(path, Buffer.alloc(32, 1))
    await run('ntfscp', ['-f', '-q', '-N', '$Max', volume, path, '$Extend/$UsnJrnl'])
  } finally {
    await rm(path, { force: true })
  }
}
