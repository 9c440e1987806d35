import { Fault } from '../../../image/fault.ts'
import { type MachineId, spellId } from '../../../image/ids.ts'
import { flag, id, ids, integer, list, object, oneOf, optional, text, withDefault } from '../fields.ts'
import { type Route, route } from '../route.ts'
import { showMachine } from '../show.ts'
import { paging, place } from './common.ts'

const MIB = 1024 ** 2
const TIB = 1024 ** 4
const name = text(256, { lengthMin: 1, subject: 'name' })
const diskBytes = integer(MIB, 64 * TIB)
const dataDisk = object({
  sizeBytes: diskBytes,
  category: withDefault(text(64), ''),
  bus: optional(oneOf('virtio-blk', 'virtio-scsi')),
  snapshotId: optional(id('snapshot')),
})
const one = { ...place, id: id('machine') }
const spell = (machineId: MachineId) => spellId('machine', machineId, 'native')

export const machineRoutes: readonly Route[] = [
  route({
    method: 'GET',
    path: '/v1/machines',
    useCase: 'machines.list',
    about: "The project's machines in a region, newest first.",
    status: 200,
    fields: {
      ...place,
      ids: optional(ids('machine')),
      states: optional(
        list(oneOf('creating', 'starting', 'running', 'stopping', 'stopped', 'failed', 'deleting'), 7),
      ),
      imageIds: optional(ids('image')),
      zone: optional(text(64)),
      name: optional(text(256)),
      tag: optional(text(128)),
      ...paging,
    },
    async run({ app, caller, region }, parameters) {
      const { states, imageIds, zone } = parameters
      const regionId = region(parameters.region)
      const { total, items } = await app.machines.list(
        caller,
        {
          regionId,
          projectId: parameters.project,
          ...(parameters.ids === undefined ? {} : { ids: parameters.ids }),
          ...(states === undefined ? {} : { states }),
          ...(imageIds === undefined ? {} : { imageIds }),
          ...(zone === undefined ? {} : { zone }),
          ...(parameters.name === undefined ? {} : { name: parameters.name }),
          ...(parameters.tag === undefined ? {} : { tag: parameters.tag }),
        },
        { offset: parameters.offset, limit: parameters.limit },
      )
      return { total, machines: items.map(showMachine) }
    },
  }),
  route({
    method: 'GET',
    path: '/v1/machines/:id',
    useCase: 'machines.list',
    about: 'One machine.',
    status: 200,
    fields: one,
    async run({ app, caller, region }, parameters) {
      const regionId = region(parameters.region)
      const filter = { regionId, projectId: parameters.project, ids: [parameters.id] }
      const { items } = await app.machines.list(caller, filter, { offset: 0, limit: 1 })
      const [found] = items
      if (found === undefined) {
        const message = `There is no machine '${spell(parameters.id)}' in ${regionId}. List them, or name its region.`
        throw new Fault('absent', message, { subject: 'machine', field: 'id' })
      }
      return showMachine(found)
    },
  }),
  route({
    method: 'POST',
    path: '/v1/machines',
    useCase: 'machines.create',
    about:
      'Launches one or more machines from an image. Processors, memory, firmware and buses are as the image remembers them, unless they are named; else 1 and 512 MiB. More disks are empty, or have the content of a snapshot.',
    status: 202,
    fields: {
      ...place,
      zone: optional(text(64)),
      imageId: id('image'),
      name,
      numberedNames: withDefault(flag, true),
      count: withDefault(integer(1, 100), 1),
      cpuCount: optional(integer(1, 256)),
      memoryBytes: optional(integer(16 * MIB, 4 * TIB)),
      typeName: withDefault(text(64), ''),
      systemDiskBytes: optional(diskBytes),
      systemDiskCategory: withDefault(text(64), ''),
      dataDisks: withDefault(list(dataDisk, 16), []),
      tag: withDefault(text(128), ''),
      labels: withDefault(list(object({ key: text(128, { lengthMin: 1 }), value: text(128) }), 20), []),
    },
    async run({ app, caller, region }, parameters) {
      const { region: regionName, project, count, ...rest } = parameters
      const made = await app.machines.create(caller, {
        ...rest,
        regionId: region(regionName),
        projectId: project,
        count,
        // A single machine keeps its plain name.
        numberedNames: parameters.numberedNames && count > 1,
        details: {},
      })
      return {
        machineIds: made.machineIds.map(spell),
        taskIds: made.taskIds.map((taskId) => spellId('task', taskId, 'native')),
      }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/machines/:id/start',
    useCase: 'machines.start',
    about: 'Starts a stopped machine.',
    status: 202,
    fields: one,
    async run({ app, caller, region }, parameters) {
      await app.machines.start(caller, {
        regionId: region(parameters.region),
        projectId: parameters.project,
        machineIds: [parameters.id],
      })
      return { id: spell(parameters.id) }
    },
  }),
  route({
    method: 'POST',
    path: '/v1/machines/:id/stop',
    useCase: 'machines.stop',
    about: "Stops a running machine: 'graceful' presses the power button first, 'power' pulls the plug.",
    status: 202,
    fields: { ...one, how: withDefault(oneOf('graceful', 'power'), 'graceful') },
    async run({ app, caller, region }, parameters) {
      await app.machines.stop(caller, {
        regionId: region(parameters.region),
        projectId: parameters.project,
        machineIds: [parameters.id],
        how: parameters.how,
      })
      return { id: spell(parameters.id) }
    },
  }),
  route({
    method: 'DELETE',
    path: '/v1/machines/:id',
    useCase: 'machines.remove',
    about: 'Removes a machine with its disks; with stoppedOnly, a running one is refused.',
    status: 202,
    fields: { ...one, stoppedOnly: withDefault(flag, false) },
    async run({ app, caller, region }, parameters) {
      await app.machines.remove(caller, {
        regionId: region(parameters.region),
        projectId: parameters.project,
        machineIds: [parameters.id],
        stoppedOnly: parameters.stoppedOnly,
      })
      return { id: spell(parameters.id) }
    },
  }),
]
