import { type Digest, newId, type ProjectId, type RegionId } from '../../image/ids.ts'
import type { Image } from '../../image/image.ts'
import type { Machine } from '../../image/machine.ts'

// An available image and a running machine for tests, changed as a test needs them.

export const NOW_MS = Date.parse('2026-08-01T12:00:00Z')
export const PROJECT = 'org-main' as ProjectId

export function fakeImage(changes: Partial<Image> = {}): Image {
  return {
    id: newId('image'),
    projectId: PROJECT,
    regionId: 'cn-hangzhou' as RegionId,
    kind: 'custom',
    origin: 'capture',
    name: 'golden',
    description: '',
    tag: '',
    osType: 'Linux',
    osName: 'Debian 12',
    state: { at: 'available', digest: 'ab'.repeat(32) as Digest },
    progressPermille: 1000,
    disks: [{ index: 0, sizeBytes: 4 * 1024 ** 3 }],
    dataBytes: 300 * 1024 ** 2,
    storedBytes: 120 * 1024 ** 2,
    movedBytes: 300 * 1024 ** 2,
    sourceMachineId: undefined,
    sourceImageId: undefined,
    createdAtMs: NOW_MS,
    updatedAtMs: NOW_MS,
    ...changes,
  }
}

export function fakeMachine(changes: Partial<Machine> = {}): Machine {
  return {
    id: newId('machine'),
    projectId: PROJECT,
    regionId: 'cn-hangzhou' as RegionId,
    zone: 'cn-hangzhou-h',
    name: 'desk',
    tag: '',
    labels: [],
    state: 'running',
    reason: '',
    cpuCount: 1,
    memoryBytes: 512 * 1024 ** 2,
    typeName: '',
    imageId: newId('image'),
    imageName: 'golden',
    osType: 'Linux',
    osName: 'Debian 12',
    disks: [],
    details: {},
    createdAtMs: NOW_MS,
    ...changes,
  }
}
