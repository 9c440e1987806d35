import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { createBench } from './fixture.ts'
import { contentOf, refusalOf } from './fixture-requests.ts'
import { BASE, benchWithRows, DESKTOP, OWN } from './fixture-rows.ts'
import { fakeImage } from './fixture-things.ts'

suite('filters and pages', () => {
  const names = async (action: string, parameters: Record<string, string>): Promise<unknown[]> => {
    const bench = benchWithRows()
    const answer = await bench.ask(action, parameters)
    assert.equal(answer.status, 200, String(answer.body))
    assert.equal(bench.app.calls.length, 1, 'the right to list is checked whatever the filter')
    const { Images, Desktops } = contentOf(answer) as Record<
      string,
      { Name?: string; DesktopName?: string }[]
    >
    return (Images ?? Desktops ?? []).map((item) => item.Name ?? item.DesktopName)
  }
  const images: [Record<string, string>, string[]][] = [
    [{}, ['base', 'own', 'new', 'bad']],
    [{ ImageType: 'SYSTEM' }, ['base']],
    [{ ImageType: 'CUSTOM' }, ['own', 'new', 'bad']],
    [{ ImageStatus: 'Creating' }, ['new']],
    [{ ImageStatus: 'CreateFailed' }, ['bad']],
    [{ OsType: 'Windows' }, ['new']],
    [{ ImageName: 'own' }, ['own']],
    [{ 'ImageId.1': OWN, 'ImageId.2': 'm-unknown' }, ['own']],
    [{ 'ImageId.1': 'm-unknown' }, []],
    [{ ImageId: OWN }, ['own']],
    [{ RegionId: 'cn-shanghai' }, ['far']],
    [{ ProtocolType: 'HDX' }, []],
    [{ SessionType: 'MULTIPLE_SESSION' }, []],
    [{ GpuCategory: 'true' }, []],
    [{ GpuCategory: 'false', ImageType: 'SYSTEM' }, ['base']],
    [{ GpuDriverVersion: '417.22' }, []],
    [{ FotaVersion: '1' }, []],
    [{ LanguageType: 'en-US', DesktopInstanceType: 'ecd.graphics.xlarge', ImageType: 'SYSTEM' }, ['base']],
  ]
  for (const [parameters, expected] of images)
    test(`DescribeImages ${JSON.stringify(parameters)}`, async () =>
      assert.deepEqual(await names('DescribeImages', parameters), expected))

  const desktops: [Record<string, string>, string[]][] = [
    [{}, ['one', 'two', 'three', 'four']],
    [{ DesktopStatus: 'Running' }, ['one']],
    [{ 'DesktopStatusList.1': 'Stopped', 'DesktopStatusList.2': 'Pending' }, ['two', 'three']],
    [{ DesktopStatus: 'Running', 'DesktopStatusList.1': 'Stopped' }, []],
    [{ DesktopStatus: 'Hibernated' }, []],
    [{ DesktopStatus: 'Deleted' }, []],
    [{ 'DesktopId.1': DESKTOP, 'DesktopId.2': 'ecd-unknown', DesktopGroupId: 'dg-1' }, ['one']],
    [{ 'DesktopId.1': 'ecd-unknown' }, []],
    [{ DesktopName: 'two' }, ['two']],
    [{ 'ImageId.1': BASE, DesktopName: 'one' }, ['one']],
    [{ 'ImageId.1': 'm-unknown' }, []],
    [{ 'Tag.1.Key': 'team' }, ['one']],
    [{ 'Tag.1.Key': 'team', 'Tag.1.Value': 'blue' }, []],
    [{ 'Tag.1.Key': 'empty', 'Tag.1.Value': '' }, ['one']],
    [{ 'Tag.1.Key': 'team', 'Tag.1.Value': '' }, []],
    [{ ChargeType: 'PrePaid' }, ['one']],
    [{ ChargeType: 'Postpaid' }, ['two', 'three', 'four']],
    [{ SubPayType: 'prePaid' }, ['one']],
    [{ SubPayType: 'monthPackage' }, []],
    [{ OfficeSiteId: 'cn-hangzhou+dir-1' }, ['one']],
    [{ DirectoryId: 'cn-hangzhou+dir-1' }, ['one']],
    [{ PolicyGroupId: 'pg-1' }, ['one']],
    [{ ResourceGroupId: 'rg-1' }, ['one']],
    [{ DesktopType: 'eds.general.4c8g' }, ['two']],
    [{ 'EndUserId.1': 'bob', 'EndUserId.2': 'carol' }, ['one', 'four']],
    [{ 'ExcludedEndUserId.1': 'bob' }, ['two', 'three', 'four']],
    [{ UserName: 'carol' }, ['four']],
    [{ 'OsTypes.1': 'Windows' }, ['two']],
    [{ ProtocolType: 'HDX' }, []],
    [{ ManagementFlag: 'Updating' }, []],
    [{ OnlyDesktopGroup: 'true' }, []],
    [{ DesktopGroupId: 'dg-1' }, []],
    [{ GroupId: 'dg-1' }, []],
    [{ QosRuleId: 'qos-1' }, []],
    [{ OfficeSiteName: 'x' }, []],
    [{ GpuInstanceGroupId: 'x' }, []],
  ]
  for (const [parameters, expected] of desktops)
    test(`DescribeDesktops ${JSON.stringify(parameters)}`, async () =>
      assert.deepEqual(await names('DescribeDesktops', parameters), expected))

  for (const [action, filter] of [
    ['DescribeImages', {}],
    ['DescribeDesktops', {}],
    ['DescribeDesktops', { SubPayType: 'postPaid' }],
  ] as [string, Record<string, string>][]) {
    test(`${action} ${JSON.stringify(filter)} is walked by its tokens`, async () => {
      const bench = benchWithRows()
      const list = action === 'DescribeImages' ? 'Images' : 'Desktops'
      const all = contentOf(await bench.ask(action, filter))[list]
      const walked: unknown[] = []
      let token = ''
      do {
        const parameters = { ...filter, MaxResults: '1', ...(token === '' ? {} : { NextToken: token }) }
        const content = contentOf(await bench.ask(action, parameters))
        walked.push(...(content[list] as unknown[]))
        token = String(content.NextToken)
      } while (token !== '')
      assert.ok(walked.length > 2)
      assert.deepEqual(walked, all)
    })
  }

  test('a token is good for its own caller, operation and filters alone', async () => {
    const bench = createBench([
      { keyId: 'LTAI-EXAMPLE-NOT-REAL-0001', secret: 'example-secret-not-real-0001' },
    ])
    bench.app.imageRows.push(fakeImage('own'), fakeImage('other'))
    const { NextToken } = contentOf(await bench.ask('DescribeImages', { MaxResults: '1' })) as {
      NextToken: string
    }
    const tampered = `${NextToken.slice(0, 4)}${NextToken[4] === 'A' ? 'B' : 'A'}${NextToken.slice(5)}`
    for (const [action, parameters] of [
      ['DescribeImages', { NextToken: tampered }],
      ['DescribeImages', { NextToken: `${NextToken}=` }],
      ['DescribeImages', { NextToken, ImageType: 'CUSTOM' }],
      ['DescribeImages', { NextToken, RegionId: 'cn-shanghai' }],
      ['DescribeDesktops', { NextToken }],
    ] as [string, Record<string, string>][])
      assert.deepEqual(refusalOf(await bench.ask(action, parameters)), [400, 'InvalidNextToken'])
    // The page size may change between pages, and a restart changes nothing.
    const elsewhere = createBench()
    elsewhere.app.imageRows.push(fakeImage('own'), fakeImage('other'))
    const rest = contentOf(await elsewhere.ask('DescribeImages', { NextToken, MaxResults: '5' }))
    assert.equal((rest.Images as unknown[]).length, 2)
  })

  test('DescribeDesktops by page number', async () => {
    const content = contentOf(
      await benchWithRows().ask('DescribeDesktops', { PageNumber: '2', PageSize: '3' }),
    )
    assert.deepEqual(
      (content.Desktops as { DesktopName: string }[]).map((desktop) => desktop.DesktopName),
      ['four'],
    )
    assert.equal(content.TotalCount, 4)
    assert.equal(content.PageNumber, 2)
    assert.equal(content.PageSize, 3)
    assert.equal(content.NextToken, '')
  })

  test('FillResourceGroup fills', async () => {
    const content = contentOf(await benchWithRows().ask('DescribeDesktops', { FillResourceGroup: 'true' }))
    const [first] = content.Desktops as { ResourceGroups: unknown }[]
    assert.deepEqual(first?.ResourceGroups, [{ Id: 'rg-1', Name: 'rg-1' }])
  })
})
