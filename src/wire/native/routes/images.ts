import { CONSISTENCIES } from '../../../image/consistency.ts'
import { type SnapshotId, spellId, type TaskId } from '../../../image/ids.ts'
import { cleaningOrAll, cleaningOrNot } from '../cleaning-field.ts'
import { id, ids, list, oneOf, optional, text, withDefault } from '../fields.ts'
import { type Route, route } from '../route.ts'
import { showImage, showWholeImage } from '../show.ts'
import { paging, place } from './common.ts'

// How long a name or a description may be is the image's own rule; these bounds only keep nonsense out.
const name = text(256, { lengthMin: 1, subject: 'name' })
const description = optional(text(1024, { subject: 'description' }))
const tag = optional(text(128))
/** What may be asked of a capture. */
const wish = {
  ...place,
  machineId: id('machine'),
  name: optional(name),
  description,
  tag,
  disks: withDefault(oneOf('system', 'all'), 'all'),
  consistency: withDefault(oneOf('best', ...CONSISTENCIES), 'best'),
  linkedDisks: optional(list(id('disk'), 16)),
  clean: cleaningOrNot,
}
/** What is asked of a cleaning, real or on paper. */
const cleanWish = { ...place, id: id('image'), clean: cleaningOrAll }
const task = (taskId: TaskId) => spellId('task', taskId, 'native')
const snapshot = (snapshotId: SnapshotId) => spellId('snapshot', snapshotId, 'native')

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
    about: 'One image, with its lineage: what it was made from, the nearest first.',
    status: 200,
    fields: { ...place, id: id('image') },
    async run({ app, caller, region }, parameters) {
      const where = {
        regionId: region(parameters.region),
        projectId: parameters.project,
        imageId: parameters.id,
      }
      const image = await app.images.get(caller, where)
      return showWholeImage(image, await app.images.lineage(caller, where))
    },
  }),
  route({
    method: 'POST',
    path: '/v1/images/capture',
    useCase: 'images.capture',
    about:
      "Makes an image of a machine that is running or stopped. `consistency`: the least that its disks have to be worth, or the best that can be had. Of `linkedDisks`, which are not in the image, snapshots are made at the same moment; they belong to the image and go with it. The image has the machine's labels, and its tag where none is named. `clean`: what of users' private data it is made without (Cleaning, above).",
    status: 202,
    fields: wish,
    async run({ app, caller, region }, parameters) {
      const { region: regionName, project: projectId, linkedDisks: linkedDiskIds, ...rest } = parameters
      const input = { regionId: region(regionName), projectId, ...rest, linkedDiskIds }
      const made = await app.images.capture(caller, input)
      return {
        imageId: spellId('image', made.imageId, 'native'),
        taskId: task(made.taskId),
        snapshotIds: made.snapshotIds.map(snapshot),
      }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/images/plan',
    useCase: 'images.plan',
    about:
      "What a capture would do, on paper: the task's output says for each disk its size, how it would be read and why, and what that means in bytes; then the consistency that can be had, space, quota, and as `blockers` why it would be refused. Where a blocker keeps the disks from being looked at, `readBytes`, `dataBytes` and `newBytes` are null. With `clean`, `cleaning` is the report of what would be taken out, or null where a blocker kept it from being looked at. Nothing is made; a running guest stands still for milliseconds.",
    status: 202,
    fields: wish,
    async run({ app, caller, region }, parameters) {
      const { region: regionName, project: projectId, linkedDisks: linkedDiskIds, ...rest } = parameters
      const input = { regionId: region(regionName), projectId, ...rest, linkedDiskIds }
      const made = await app.images.plan(caller, input)
      return { taskId: task(made.taskId) }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/images/compose',
    useCase: 'images.compose',
    about:
      "Makes an image of snapshots of one machine's disks, its system disk among them; no byte is moved, unless it is cleaned. With `disks` 'all' every disk of the machine has to be there (and the machine too, which knows its disks), with 'system' no other may be. It has the machine's labels, and its tag where none is named, as long as the machine is there.",
    status: 202,
    fields: {
      ...place,
      snapshotIds: list(id('snapshot'), 17),
      machineId: optional(id('machine')),
      disks: optional(oneOf('system', 'all')),
      name: optional(name),
      description,
      tag,
      clean: cleaningOrNot,
    },
    async run({ app, caller, region }, parameters) {
      const { region: regionName, project: projectId, ...rest } = parameters
      const made = await app.images.compose(caller, { regionId: region(regionName), projectId, ...rest })
      return { imageId: spellId('image', made.imageId, 'native'), taskId: task(made.taskId) }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/images/:id/clean',
    useCase: 'images.clean',
    about:
      "A new image of an available one, without users' private data; the one it is made of stays as it is, and is its parent. Without `name` it is called as that one with '-clean' behind it; description and tag are those of the source where none are named.",
    status: 202,
    fields: { ...cleanWish, name: optional(name), description, tag },
    async run({ app, caller, region }, parameters) {
      const { region: regionName, project: projectId, id: imageId, ...rest } = parameters
      const input = { regionId: region(regionName), projectId, imageId, ...rest }
      const made = await app.images.clean(caller, input)
      return { imageId: spellId('image', made.imageId, 'native'), taskId: task(made.taskId) }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/images/:id/clean/plan',
    useCase: 'images.clean',
    about:
      "What cleaning an image would take out, on paper: the task's output is `cleaning`, the report, or null, and `blockers`, why it would be refused. Nothing is made.",
    status: 202,
    fields: cleanWish,
    async run({ app, caller, region }, parameters) {
      const { region: regionName, project: projectId, id: imageId, clean } = parameters
      const input = { regionId: region(regionName), projectId, imageId, clean }
      const made = await app.images.planClean(caller, input)
      return { taskId: task(made.taskId) }
    },
  }),
  route({
    method: 'GET',
    path: '/v1/images/:id/report',
    useCase: 'images.report',
    about:
      'The signed report of the cleaning that made the image, or the one it was copied from: `report` and `signature`, as docs/cleaning.md says. One that was never cleaned has none: `absent`, reason `no-report`.',
    status: 200,
    fields: { ...place, id: id('image') },
    run({ app, caller, region }, parameters) {
      const { region: regionName, project: projectId, id: imageId } = parameters
      return app.images.report(caller, { regionId: region(regionName), projectId, imageId })
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/images/:id',
    useCase: 'images.remove',
    about:
      'Takes an image off the lists, with the snapshots that belong to it; one that is being made is cancelled.',
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
