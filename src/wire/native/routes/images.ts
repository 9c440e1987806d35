import { spellId, type TaskId } from '../../../image/ids.ts'
import { distinct, id, ids, list, oneOf, optional, project, text, withDefault } from '../fields.ts'
import { type Route, route } from '../route.ts'
import { showImage } from '../show.ts'
import { paging, place } from './common.ts'

// How long a name or a description may be is the image's own rule; these bounds only keep nonsense out.
const name = text(256, { lengthMin: 1, subject: 'name' })
const description = optional(text(1024, { subject: 'description' }))
const tag = optional(text(128))
const task = (taskId: TaskId) => spellId('task', taskId, 'native')

export const imageRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/images',
    useCase: 'images.list',
    about: "The project's own images and the base images of a region, newest first.",
    status: 200,
    fields: {
      ...place,
      ids: optional(ids('image')),
      kinds: optional(list(oneOf('base', 'custom'), 2)),
      states: optional(list(oneOf('creating', 'available', 'failed'), 3)),
      osType: optional(oneOf('Linux', 'Windows')),
      name: optional(text(256)),
      tag,
      ...paging,
    },
    async run({ app, caller, region }, parameters) {
      const { kinds, states, osType } = parameters
      const regionId = region(parameters.region)
      const { total, items } = await app.images.list(
        caller,
        {
          regionId,
          projectId: parameters.project,
          ...(parameters.ids === undefined ? {} : { ids: parameters.ids }),
          ...(kinds === undefined ? {} : { kinds }),
          ...(states === undefined ? {} : { states }),
          ...(osType === undefined ? {} : { osType }),
          ...(parameters.name === undefined ? {} : { name: parameters.name }),
          ...(parameters.tag === undefined ? {} : { tag: parameters.tag }),
        },
        { offset: parameters.offset, limit: parameters.limit },
      )
      return { total, images: items.map(showImage) }
    },
  }),
  route({
    method: 'GET',
    path: '/v1/images/:id',
    useCase: 'images.list',
    about: 'One image.',
    status: 200,
    fields: { ...place, id: id('image') },
    async run({ app, caller, region }, parameters) {
      const where = {
        regionId: region(parameters.region),
        projectId: parameters.project,
        imageId: parameters.id,
      }
      return showImage(await app.images.get(caller, where))
    },
  }),
  route({
    method: 'POST',
    path: '/v1/images/import',
    useCase: 'images.import',
    about: 'Makes an image from a raw disk file in the import folder of the server.',
    status: 202,
    fields: {
      ...place,
      fileName: text(255, { lengthMin: 1 }),
      name,
      description,
      kind: withDefault(oneOf('base', 'custom'), 'custom'),
      osType: withDefault(oneOf('Linux', 'Windows'), 'Linux'),
      osName: withDefault(text(128), ''),
    },
    async run({ app, caller, region }, parameters) {
      const { fileName, kind, osType, osName } = parameters
      const made = await app.images.import(caller, {
        regionId: region(parameters.region),
        projectId: parameters.project,
        fileName,
        name: parameters.name,
        description: parameters.description,
        kind,
        osType,
        osName,
      })
      return { imageId: spellId('image', made.imageId, 'native'), taskId: task(made.taskId) }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/images/capture',
    useCase: 'images.capture',
    about: 'Makes an image of a machine that is running or stopped.',
    status: 202,
    fields: {
      ...place,
      machineId: id('machine'),
      name: optional(name),
      description,
      tag,
      disks: withDefault(oneOf('system', 'all'), 'all'),
    },
    async run({ app, caller, region }, parameters) {
      const made = await app.images.capture(caller, {
        regionId: region(parameters.region),
        projectId: parameters.project,
        machineId: parameters.machineId,
        name: parameters.name,
        description: parameters.description,
        tag: parameters.tag,
        disks: parameters.disks,
      })
      return { imageId: spellId('image', made.imageId, 'native'), taskId: task(made.taskId) }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/images/:id/copy',
    useCase: 'images.copy',
    about: 'Copies an available custom image to other regions or another project.',
    status: 202,
    fields: {
      ...place,
      id: id('image'),
      targetRegions: optional(distinct(text(64, { lengthMin: 1 }), 50)),
      targetProject: optional(project),
      name: optional(name),
      description,
      tag,
    },
    async run({ app, caller, region }, parameters) {
      const regionId = region(parameters.region)
      const made = await app.images.copy(caller, {
        regionId,
        projectId: parameters.project,
        imageId: parameters.id,
        targetProjectId: parameters.targetProject,
        // To another project of the same region, when no region is named.
        targetRegionIds: parameters.targetRegions?.map((one) => region(one)) ?? [regionId],
        name: parameters.name,
        description: parameters.description,
        tag: parameters.tag,
      })
      return {
        taskId: task(made.taskId),
        copies: made.copies.map((copy) => ({
          region: copy.regionId,
          imageId: spellId('image', copy.imageId, 'native'),
          taskId: task(copy.taskId),
        })),
      }
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/images/:id',
    useCase: 'images.remove',
    about: 'Takes an image off the lists; one that is being made is cancelled.',
    status: 200,
    fields: { ...place, id: id('image') },
    async run({ app, caller, region }, parameters) {
      await app.images.remove(caller, {
        regionId: region(parameters.region),
        projectId: parameters.project,
        imageIds: [parameters.id],
      })
      return { id: spellId('image', parameters.id, 'native') }
    },
  }),
]
