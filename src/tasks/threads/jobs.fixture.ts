import assert from 'node:assert/strict'
import { PLAIN_CONFIG } from '../../image/config.ts'
import type { DomainId, RegionId } from '../../image/ids.ts'
import type { OnBytes, StoreJobs, WriteJob, WrittenImage } from '../store-jobs.ts'

/** A job that makes one image of all its disks, in domain 'org-a', needed by `image-<session>`. */
export function imageJob(regionId: RegionId, sessionId: string, disks: WriteJob['disks']): WriteJob {
  return {
    ...{ regionId, sessionId, domain: 'org-a' as DomainId, disks, consistency: 'crash' },
    images: [
      {
        disks: disks.map((_disk, index) => index),
        ...{ config: PLAIN_CONFIG, os: { type: 'linux', name: '' }, parent: undefined },
        ref: { holder: `image-${sessionId}`, label: { is: 'image' } },
      },
    ],
  }
}

export async function writeOne(
  jobs: Pick<StoreJobs, 'write'>,
  job: WriteJob,
  onBytes: OnBytes = () => {},
  signal = new AbortController().signal,
): Promise<WrittenImage> {
  const [made] = await jobs.write(job, onBytes, signal)
  assert(made !== undefined)
  return made
}
