import { Fault } from '../../../image/fault.ts'
import { spellId } from '../../../image/ids.ts'
import { GIB } from '../../../image/region.ts'
import { type DesktopDetails, parseDesktopType } from '../desktop.ts'
import { operation } from '../operation.ts'
import type { Parameters, Parsed } from '../parameter.ts'
import { missing } from '../request.ts'
import { refuseTwins } from '../tags.ts'
import { createDesktopsParameters } from './create-desktops.parameters.ts'

type Given = Parsed<typeof createDesktopsParameters>

const CATEGORY_DEFAULT = 'cloud_essd'
const NAME_DEFAULT = 'desktop'
const PERIODS: Record<'Month' | 'Year', readonly number[]> = { Month: [1, 2, 3, 6], Year: [1, 2, 3, 4, 5] }

export const createDesktops = operation({
  name: 'CreateDesktops',
  useCase: 'machines.create',
  summary: 'Makes cloud computers from an image, all of them or none. Answers before they run.',
  parameters: createDesktopsParameters satisfies Parameters,
  async run({ app, caller, region }, given) {
    const attachment = given.DesktopAttachment
    if (attachment === undefined)
      throw missing('DesktopAttachment', 'Say in it ImageId and DesktopType, as one JSON object.')
    const { cpuCount, memoryBytes } = parseDesktopType(
      attachment.DesktopType,
      'DesktopAttachment.DesktopType',
    )
    const count = given.Amount ?? 1
    refuseUnkeptUsers(given, count)
    refuseOddPeriod(given)
    refuseTwins(given.Tag ?? [])
    const { SystemDiskSize, DataDiskSize } = attachment
    const { machineIds } = await app.machines.create(caller, {
      regionId: region.id,
      imageId: attachment.ImageId,
      name: given.DesktopName ?? NAME_DEFAULT,
      numberedNames: count > 1 && (given.DesktopNameSuffix ?? true),
      count,
      cpuCount,
      memoryBytes,
      typeName: attachment.DesktopType,
      systemDiskBytes: SystemDiskSize === undefined ? undefined : SystemDiskSize * GIB,
      systemDiskCategory: attachment.SystemDiskCategory ?? CATEGORY_DEFAULT,
      dataDisks:
        DataDiskSize === undefined || DataDiskSize === 0
          ? []
          : [{ sizeBytes: DataDiskSize * GIB, category: attachment.DataDiskCategory ?? CATEGORY_DEFAULT }],
      tag: '',
      labels: (given.Tag ?? []).map(({ Key, Value }) => ({ key: Key, value: Value ?? '' })),
      details: { ...detailsToKeep(given) },
    })
    return { DesktopId: machineIds.map((id) => spellId('machine', id, 'wuying')) }
  },
})

function detailsToKeep(given: Given): DesktopDetails {
  return {
    chargeType: given.ChargeType === 'PrePaid' ? 'PrePaid' : 'PostPaid',
    officeSiteId: given.OfficeSiteId ?? '',
    policyGroupId: given.PolicyGroupId ?? '',
    endUserIds: [...new Set(given.EndUserId)],
    userAssignMode: given.UserAssignMode ?? 'ALL',
    resourceGroupId: given.ResourceGroupId ?? '',
    // The SDKs say Hostname, Terraform says HostName.
    hostName: given.Hostname ?? given.HostName ?? '',
    systemDiskLevel: given.DesktopAttachment?.SystemDiskPerLevel ?? 'PL0',
    dataDiskLevel: given.DesktopAttachment?.DataDiskPerLevel ?? 'PL0',
  }
}

/** Computers of one call share their users here; PER_USER with several users would need to tell them apart. */
function refuseUnkeptUsers({ UserAssignMode, EndUserId }: Given, count: number): void {
  const userCount = new Set(EndUserId).size
  if (UserAssignMode !== 'PER_USER' || userCount === 0) return
  if (count % userCount !== 0) {
    throw new Fault('invalid', `With PER_USER it is a multiple of the number of users, ${userCount}.`, {
      field: 'Amount',
    })
  }
  if (userCount > 1) {
    throw new Fault(
      'invalid',
      'PER_USER with several users in one call arrives with a later release. Send one call for each user.',
      { field: 'UserAssignMode', reason: 'unsupported' },
    )
  }
}

function refuseOddPeriod({ ChargeType, Period, PeriodUnit }: Given): void {
  if (ChargeType !== 'PrePaid' || Period === undefined) return
  const periods = PERIODS[PeriodUnit ?? 'Month']
  if (!periods.includes(Period))
    throw new Fault('invalid', `With PeriodUnit ${PeriodUnit ?? 'Month'} it takes ${periods.join(', ')}.`, {
      field: 'Period',
    })
}
