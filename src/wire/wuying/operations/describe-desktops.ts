import type { MachineFilter } from '../../../app/contract.ts'
import { Fault } from '../../../image/fault.ts'
import { findId } from '../../../image/ids.ts'
import type { Machine } from '../../../image/machine.ts'
import { detailsOf, packDesktop } from '../desktop.ts'
import { operation } from '../operation.ts'
import { listPage, nextToken, PAGE_SIZE_DEFAULT, pagingOf } from '../page.ts'
import type { Parsed } from '../parameter.ts'
import { LISTED_STATES, statesOfStatus } from '../spell.ts'
import { refuseTwins } from '../tags.ts'
import { describeDesktopsParameters } from './describe-desktops.parameters.ts'

type Given = Parsed<typeof describeDesktopsParameters>

export const describeDesktops = operation({
  name: 'DescribeDesktops',
  useCase: 'machines.list',
  summary: 'Lists the cloud computers of the region, newest first.',
  parameters: describeDesktopsParameters,
  async run({ app, caller, region, pageKey }, given) {
    const { MaxResults, NextToken, PageNumber, PageSize, ...filters } = given
    refuseTwins(filters.Tag ?? [])
    const scope = { key: pageKey, action: 'DescribeDesktops', filters: [region.id, filters] }
    const byNumber = PageNumber !== undefined || PageSize !== undefined
    const paging = byNumber ? numberedPage(given) : pagingOf(scope, { MaxResults, NextToken })
    const ids = filters.DesktopId?.map((id) => findId('machine', id)).filter((id) => id !== undefined)
    const imageIds = filters.ImageId?.map((id) => findId('image', id)).filter((id) => id !== undefined)
    const states = LISTED_STATES.filter((state) => hasStatus(state, filters))
    const nothingMatches =
      ids?.length === 0 || imageIds?.length === 0 || states.length === 0 || wantsWhatIsNotHere(filters)
    const filter: MachineFilter = {
      regionId: region.id,
      ...(ids === undefined || nothingMatches ? {} : { ids }),
      ...(imageIds === undefined || nothingMatches ? {} : { imageIds }),
      ...(nothingMatches ? {} : { states }),
      ...(filters.DesktopName === undefined ? {} : { name: filters.DesktopName }),
      ...(filters.Tag === undefined
        ? {}
        : { labels: filters.Tag.map(({ Key, Value }) => ({ key: Key, value: Value })) }),
    }
    // The call is made even where nothing can match: it is what checks the caller's right to ask.
    const page = nothingMatches
      ? await app.machines
          .list(caller, { regionId: region.id }, { offset: 0, limit: 1 })
          .then(() => ({ total: 0, items: [] }))
      : await listPage((part) => app.machines.list(caller, filter, part), paging, matcher(filters))
    const desktops = page.items.map((machine) => packDesktop(machine, filters.FillResourceGroup ?? false))
    return {
      Desktops: desktops.filter((desktop) => desktop !== undefined),
      NextToken: byNumber ? '' : nextToken(scope, paging, page.total),
      TotalCount: page.total,
      ...(byNumber ? { PageNumber: PageNumber ?? 1, PageSize: paging.limit } : {}),
    }
  },
})

function numberedPage(given: Given): { readonly offset: number; readonly limit: number } {
  if (given.NextToken !== undefined || given.MaxResults !== undefined) {
    throw new Fault('invalid', 'Page either by MaxResults and NextToken or by PageNumber and PageSize.', {
      field: given.PageNumber === undefined ? 'PageSize' : 'PageNumber',
    })
  }
  const limit = given.PageSize ?? PAGE_SIZE_DEFAULT
  return { offset: ((given.PageNumber ?? 1) - 1) * limit, limit }
}

type Filters = Omit<Given, 'MaxResults' | 'NextToken' | 'PageNumber' | 'PageSize'>

function hasStatus(
  state: (typeof LISTED_STATES)[number],
  { DesktopStatus, DesktopStatusList }: Filters,
): boolean {
  const isOneOf = (statuses: NonNullable<Filters['DesktopStatusList']>): boolean =>
    statuses.some((status) => statesOfStatus(status).includes(state))
  return (
    (DesktopStatus === undefined || isOneOf([DesktopStatus])) &&
    (DesktopStatusList === undefined || isOneOf(DesktopStatusList))
  )
}

/** True for filters on things that no computer here has, so that nothing can match. */
function wantsWhatIsNotHere(filters: Filters): boolean {
  return (
    // A pool is not looked at where computers are named.
    (filters.DesktopGroupId !== undefined && filters.DesktopId === undefined) ||
    filters.OnlyDesktopGroup === true ||
    filters.GroupId !== undefined ||
    filters.GpuInstanceGroupId !== undefined ||
    filters.OfficeSiteName !== undefined ||
    filters.QosRuleId !== undefined ||
    filters.ProtocolType === 'HDX' ||
    (filters.ManagementFlag !== undefined && filters.ManagementFlag !== 'NoFlag') ||
    filters.SubPayType === 'duration' ||
    filters.SubPayType === 'monthPackage'
  )
}

/** The filters that only this cloud's words know; undefined when none is asked for. */
function matcher(filters: Filters): ((machine: Machine) => boolean) | undefined {
  const chargeType = filters.ChargeType === 'Postpaid' ? 'PostPaid' : filters.ChargeType
  const tests: ((machine: Machine) => boolean)[] = []
  const equal = (wanted: string | undefined, of: (machine: Machine) => string): void => {
    if (wanted !== undefined) tests.push((machine) => of(machine) === wanted)
  }
  equal(chargeType, (machine) => detailsOf(machine).chargeType)
  equal(filters.DesktopType, (machine) => machine.typeName)
  equal(filters.OfficeSiteId, (machine) => detailsOf(machine).officeSiteId)
  equal(filters.DirectoryId, (machine) => detailsOf(machine).officeSiteId)
  equal(filters.PolicyGroupId, (machine) => detailsOf(machine).policyGroupId)
  equal(filters.ResourceGroupId, (machine) => detailsOf(machine).resourceGroupId)
  if (filters.SubPayType === 'postPaid') equal('PostPaid', (machine) => detailsOf(machine).chargeType)
  if (filters.SubPayType === 'prePaid') equal('PrePaid', (machine) => detailsOf(machine).chargeType)
  const users = (machine: Machine): ReadonlySet<string> => new Set(detailsOf(machine).endUserIds)
  const { EndUserId, ExcludedEndUserId, OsTypes, UserName } = filters
  if (EndUserId !== undefined) tests.push((machine) => EndUserId.some((user) => users(machine).has(user)))
  if (ExcludedEndUserId !== undefined)
    tests.push((machine) => !ExcludedEndUserId.some((user) => users(machine).has(user)))
  if (UserName !== undefined) tests.push((machine) => users(machine).has(UserName))
  if (OsTypes !== undefined) tests.push((machine) => OsTypes.includes(machine.osType))
  return tests.length === 0 ? undefined : (machine) => tests.every((test) => test(machine))
}
