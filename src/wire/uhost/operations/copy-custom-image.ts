import assert from 'node:assert/strict'
import { spellId } from '../../../image/ids.ts'
import { defineOperation, PLACE, placeOf } from '../operation.ts'
import { bad, optional, required } from '../parameter.ts'
import { imageId, list, name, projectId, region, text } from '../rules.ts'

/** Source: uhost.md §3.1. With TargetRegionList, even of one region, the answer is Infos; without, the two ids. */
export const copyCustomImage = defineOperation({
  name: 'CopyCustomImage',
  useCase: 'images.copy',
  summary: 'Copies a custom image to other regions or another project.',
  parameters: {
    ...PLACE,
    SourceImageId: required(imageId()),
    TargetProjectId: required(projectId(), 'of all target regions'),
    TargetRegion: optional(region(), 'default: the source’s region'),
    TargetImageName: optional(name(), 'default: the source’s name'),
    TargetImageDescription: optional(text(255), 'default: the source’s'),
    TargetImageTag: optional(name(), 'default: the source’s'),
    TargetRegionList: optional(
      list(region(), 100, true),
      'the source’s region may be in it only if TargetProjectId is another project',
    ),
  },
  words: {
    image: 'SourceImageId',
    region: 'TargetRegion',
    name: 'TargetImageName',
    description: 'TargetImageDescription',
  },
  async run({ app, caller }, given) {
    if (given.TargetRegion !== undefined && given.TargetRegionList !== undefined) {
      throw bad(
        'TargetRegionList',
        'Send it or TargetRegion, not both: it would be unclear which one is meant.',
      )
    }
    const targets = given.TargetRegionList ?? [given.TargetRegion ?? given.Region]
    const { copies } = await app.images.copy(caller, {
      ...placeOf(given),
      imageId: given.SourceImageId,
      targetProjectId: given.TargetProjectId,
      targetRegionIds: targets.map(({ id }) => id),
      name: given.TargetImageName,
      description: given.TargetImageDescription,
      tag: given.TargetImageTag,
    })
    assert.equal(copies.length, targets.length)
    const infos = copies.map((copy) => ({
      TaskId: spellId('task', copy.taskId, 'uhost'),
      TargetImageId: spellId('image', copy.imageId, 'uhost'),
      TargetRegion: copy.regionId,
    }))
    if (given.TargetRegionList !== undefined) return { Infos: infos }
    return { TargetImageId: infos[0]?.TargetImageId, TaskId: infos[0]?.TaskId }
  },
})
