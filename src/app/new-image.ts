import type { Rows } from '../catalog/contract.ts'
import { PLAIN_CONFIG } from '../image/config.ts'
import { Fault } from '../image/fault.ts'
import { type ImageId, newId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import { parseDescription, parseImageName } from '../image/names.ts'
import type { Parts } from './parts.ts'

export type NewImage = Pick<
  Image,
  'projectId' | 'regionId' | 'kind' | 'origin' | 'name' | 'osType' | 'osName' | 'disks'
> &
  Partial<
    Pick<
      Image,
      | 'description'
      | 'tag'
      | 'labels'
      | 'sourceMachineId'
      | 'sourceImageId'
      | 'config'
      | 'consistency'
      | 'parent'
      | 'cleaning'
      | 'imported'
    >
  > & {
    /** Charged from now on, where it is known what the image will hold. */
    readonly reservedBytes?: number
  }

/** Throws Fault 'invalid' with the field. */
export function parseWord(text: string, field: 'tag' | 'osName'): string {
  if (!/\p{Cc}/u.test(text)) return text
  throw new Fault('invalid', `'${field}' takes text without control characters.`, { field })
}

/** Fault 'full' 'image' if the project has as many in the region as it may. */
export async function refuseTooMany(
  { imagesPerRegionMax }: Pick<Parts, 'imagesPerRegionMax'>,
  rows: Rows,
  { projectId, regionId }: Pick<Image, 'projectId' | 'regionId'>,
): Promise<void> {
  const held = await rows
    .selectFrom('image')
    .select((q) => q.fn.countAll<number>().as('count'))
    .where('regionId', '=', regionId)
    .where('projectId', '=', projectId)
    .executeTakeFirstOrThrow()
  if (Number(held.count) < imagesPerRegionMax) return
  throw new Fault(
    'full',
    `Project ${projectId} has its ${imagesPerRegionMax} images in region ${regionId}. ` +
      'Delete some, or raise imagesPerRegionMax.',
    { subject: 'image' },
  )
}

/** Lists an image that is about to be made. Faults as of `refuseTooMany`; the rules of names and words as Fault 'invalid'. */
export async function insertImage(
  parts: Pick<Parts, 'imagesPerRegionMax' | 'clock'>,
  rows: Rows,
  image: NewImage,
): Promise<ImageId> {
  await refuseTooMany(parts, rows, image)
  const id = newId('image')
  const nowMs = parts.clock()
  await rows
    .insertInto('image')
    .values({
      id,
      projectId: image.projectId,
      regionId: image.regionId,
      kind: image.kind,
      origin: image.origin,
      name: parseImageName(image.name),
      description: parseDescription(image.description ?? ''),
      tag: parseWord(image.tag ?? 'Default', 'tag'),
      osType: image.osType,
      osName: parseWord(image.osName, 'osName'),
      state: 'creating',
      taskId: null,
      digest: null,
      reason: null,
      progressPermille: 0,
      disks: JSON.stringify(image.disks),
      dataBytes: 0,
      storedBytes: 0,
      movedBytes: 0,
      reservedBytes: image.reservedBytes ?? 0,
      sourceMachineId: image.sourceMachineId ?? null,
      sourceImageId: image.sourceImageId ?? null,
      config: JSON.stringify(image.config ?? PLAIN_CONFIG),
      consistency: image.consistency ?? null,
      parent: image.parent ?? null,
      cleaning: image.cleaning === undefined ? null : JSON.stringify(image.cleaning),
      imported: image.imported === undefined ? null : JSON.stringify(image.imported),
      labels: JSON.stringify((image.labels ?? []).map(({ key, value }) => ({ key, value }))),
      createdAtMs: nowMs,
      updatedAtMs: nowMs,
    })
    .execute()
  return id
}
