import type { Rows } from '../catalog/contract.ts'
import { Fault } from '../image/fault.ts'
import { type ImageId, newId } from '../image/ids.ts'
import type { Image } from '../image/image.ts'
import { parseDescription, parseImageName } from '../image/names.ts'
import type { Parts } from './parts.ts'

export type NewImage = Pick<
  Image,
  'projectId' | 'regionId' | 'kind' | 'origin' | 'name' | 'osType' | 'osName' | 'disks'
> &
  Partial<Pick<Image, 'description' | 'tag' | 'sourceMachineId' | 'sourceImageId'>> & {
    /** Charged from now on, where it is known what the image will hold. */
    readonly reservedBytes?: number
  }

function parseWord(text: string, field: string): string {
  if (!/\p{Cc}/u.test(text)) return text
  throw new Fault('invalid', `'${field}' takes text without control characters.`, { field })
}

/**
 * Lists an image that is about to be made. Fault 'full' 'image' if the project has as many in the region as it may; the
 * rules of names and words as Fault 'invalid'.
 */
export async function insertImage(
  { imagesPerRegionMax, clock }: Pick<Parts, 'imagesPerRegionMax' | 'clock'>,
  rows: Rows,
  image: NewImage,
): Promise<ImageId> {
  const held = await rows
    .selectFrom('image')
    .select((q) => q.fn.countAll<number>().as('count'))
    .where('regionId', '=', image.regionId)
    .where('projectId', '=', image.projectId)
    .executeTakeFirstOrThrow()
  if (Number(held.count) >= imagesPerRegionMax) {
    throw new Fault(
      'full',
      `Project ${image.projectId} has its ${imagesPerRegionMax} images in region ${image.regionId}. ` +
        'Delete some, or raise imagesPerRegionMax.',
      { subject: 'image' },
    )
  }
  const id = newId('image')
  const nowMs = clock()
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
      createdAtMs: nowMs,
      updatedAtMs: nowMs,
    })
    .execute()
  return id
}
