import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { run } from './programs.ts'

const OPTIONS = 'streams_interface=windows,compression,noatime,no_detach'

/**
 * Mounts an NTFS volume in a folder of its own for as long as `work` takes. Everything is in the file when this
 * resolves: the driver is waited for, because an unmount alone does not wait until it has written.
 */
export async function withNtfs<T>(
  path: string,
  work: (folder: string) => Promise<T>,
  mode: 'rw' | 'ro' = 'rw',
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'calo-ntfs-'))
  const driver = spawn('ntfs-3g', ['-o', `${mode},${OPTIONS}`, path, folder], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let said = ''
  driver.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  const ended = once(driver, 'close')
  try {
    while (!(await isMounted(folder))) {
      if (driver.exitCode !== null) throw new Error(`ntfs-3g: ${said}`)
      await delay(5)
    }
    try {
      return await work(folder)
    } finally {
      await run('umount', [folder])
    }
  } finally {
    await ended
    await rmdir(folder)
  }
}

async function isMounted(folder: string): Promise<boolean> {
  return (await readFile('/proc/self/mounts', 'utf8')).includes(` ${folder} `)
}
