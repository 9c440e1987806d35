import { spellId } from '../../../image/ids.ts'
import { GIB, MIB } from '../../../image/region.ts'
import { ACCEPTED_AT_CREATION, DISK } from '../creation-parameters.ts'
import { diskPlan, refuseBadLogin } from '../creation-rules.ts'
import { defineOperation, PLACE, placeOf } from '../operation.ts'
import { accepted, bad, optional, required, withDefault } from '../parameter.ts'
import { choice, imageId, integer, list, name, object, text, zone } from '../rules.ts'
import { keepTold } from '../told.ts'

const TYPE_NAME = /^[A-Za-z][A-Za-z0-9./]*$/

/** Source: uhost.md §3.10. All hosts are made or none. */
export const createUHostInstance = defineOperation({
  name: 'CreateUHostInstance',
  useCase: 'machines.create',
  summary: 'Makes and starts hosts from an image. They are listed at once as Initializing.',
  parameters: {
    ...PLACE,
    Zone: required(zone()),
    ImageId: required(imageId()),
    Disks: optional(
      list(object(DISK), 20),
      'exactly one with IsBoot True; absent: BootDiskSpace and DiskSpace, or a system disk as large as the image',
    ),
    Name: withDefault(name(), 'UHost', 'the same for all hosts of one call'),
    Tag: withDefault(name(), 'Default'),
    CPU: withDefault(integer(1, 64), 4),
    Memory: withDefault(integer(1024, 262_144, 1024), 8192, 'in MB'),
    MaxCount: withDefault(integer(1, 100), 1),
    MinCount: withDefault(integer(1, 100), 1, 'not above MaxCount; all hosts of a call are made, or none'),
    Labels: optional(list(object({ Key: required(text(64)), Value: optional(text(256)) }), 50)),
    MachineType: withDefault(text(16, TYPE_NAME, 'a machine type'), 'N', 'kept and shown'),
    UHostFamily: optional(text(16, TYPE_NAME, 'a family of hosts'), 'kept and shown'),
    UHostType: optional(text(16, TYPE_NAME, 'a host type'), 'kept and shown'),
    MinimalCpuPlatform: withDefault(text(32, TYPE_NAME, 'a CPU platform'), 'Intel/Auto', 'kept and shown'),
    ChargeType: withDefault(
      choice('Year', 'Month', 'Dynamic', 'Postpay', 'Spot'),
      'Month',
      'kept and shown; nothing is charged',
    ),
    NetCapability: withDefault(choice('Normal', 'Super', 'Ultra', 'Extreme'), 'Normal', 'kept and shown'),
    BootDiskSpace: optional(integer(0, 8000), 'GB; the old form, without Disks'),
    DiskSpace: optional(integer(0, 8000), 'GB of one data disk; the old form, without Disks'),
    LoginMode: accepted(
      choice('Password', 'KeyPair', 'ImagePasswd'),
      'guests keep the accounts of their image: nothing inside a guest is changed at its start. KeyPair needs KeyPairId, and there are no key pairs',
      true,
    ),
    ...ACCEPTED_AT_CREATION,
  },
  words: { image: 'ImageId', zone: 'Zone', name: 'Name', disk: 'Disks', snapshot: 'Disks' },
  async run({ app, caller }, given) {
    refuseBadLogin(given.LoginMode, given.Password)
    if (given.MinCount > given.MaxCount) throw bad('MinCount', 'Give at most MaxCount.')
    const plan = diskPlan(given.Disks, given.BootDiskSpace, given.DiskSpace)
    const { machineIds } = await app.machines.create(caller, {
      ...placeOf(given),
      zone: given.Zone,
      imageId: given.ImageId,
      name: given.Name,
      numberedNames: false,
      count: given.MaxCount,
      cpuCount: given.CPU,
      memoryBytes: given.Memory * MIB,
      typeName: given.MachineType,
      systemDiskBytes: plan.boot.sizeGib === undefined ? undefined : plan.boot.sizeGib * GIB,
      systemDiskCategory: plan.boot.type,
      dataDisks: plan.data.map(({ sizeGib, type, ...content }) => ({
        sizeBytes: sizeGib * GIB,
        category: type,
        ...content,
      })),
      tag: given.Tag,
      labels: (given.Labels ?? []).map((label) => ({ key: label.Key, value: label.Value ?? '' })),
      details: keepTold({
        ChargeType: given.ChargeType,
        NetCapability: given.NetCapability,
        UHostType: given.UHostType ?? '',
        UHostFamily: given.UHostFamily ?? '',
        MinimalCpuPlatform: given.MinimalCpuPlatform,
      }),
    })
    const ids = machineIds.map((id) => spellId('machine', id, 'uhost'))
    // Addresses are answered for a single host alone, and ours have none.
    return given.MaxCount === 1 ? { UHostIds: ids, IPs: [] } : { UHostIds: ids }
  },
})
