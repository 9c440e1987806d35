import { rm } from 'node:fs/promises'
import { buildNtfs } from '../../test/disks/ntfs.ts'
import { Tokens } from '../../test/disks/tokens.ts'
import { type BenchDisk, ensureDisk, GIB } from './data.ts'
import { isInstalled } from './machine.ts'

/** Whoever runs them again gets the same bytes. */
const SEED = 5
const FILE_COUNT = 5000

function ntfs(sizeGib: number): BenchDisk {
  return {
    name: `NTFS of ${sizeGib} GiB`,
    whyNot: () => (isInstalled('ntfs-3g') ? undefined : 'ntfs-3g is not installed (package ntfs-3g)'),
    ensure: (say) =>
      ensureDisk(`clean-ntfs-${sizeGib}.raw`, async (path) => {
        say(`making an NTFS of ${sizeGib} GiB, once`)
        try {
          const tokens = new Tokens(SEED)
          const size = { sizeBytes: sizeGib * GIB, fileCount: FILE_COUNT, withHive: true } as const
          await buildNtfs({ path, tokens, ...size })
        } catch (error) {
          await rm(path, { force: true })
          throw error
        }
      }),
  }
}

/** A Windows with eight users to be removed and 5 000 files beside what each of them has; the same in 64 GiB. */
export const usersDisk = ntfs(4)
export const largeUsersDisk = ntfs(64)
