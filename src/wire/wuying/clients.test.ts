import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import OpenApiClient, { Config, OpenApiRequest, Params } from '@alicloud/openapi-client'
import RpcClient from '@alicloud/pop-core'
import { RuntimeOptions } from '@alicloud/tea-util'
import { CLEAN_ALL } from '../../image/cleaning.ts'
import { Fault } from '../../image/fault.ts'
import type { SnapshotId } from '../../image/ids.ts'
import { type Bench, createBench } from './fixture.ts'
import { type Answer, NAMES, type ServedBench, serveBench } from './fixture-clients.ts'
import { copyFlow } from './fixture-copy-flow.ts'
import { KEY } from './fixture-requests.ts'
import { fakeCore, fakeMachine, fakeSnapshot } from './fixture-things.ts'

/** The newer official client, unchanged but for its endpoint. */
function openApi(host: string, signatureAlgorithm?: string) {
  const config = new Config({
    accessKeyId: KEY.keyId,
    accessKeySecret: KEY.secret,
    endpoint: host,
    protocol: 'HTTP',
    ...(signatureAlgorithm === undefined ? {} : { signatureAlgorithm }),
  })
  // Node gives a CommonJS module as a whole: its class is one level down.
  const client = new OpenApiClient.default(config)
  return async (action: string, parameters: Record<string, string>, inBody = false) => {
    const params = new Params({
      action,
      version: '2020-09-30',
      protocol: 'HTTP',
      pathname: '/',
      method: 'POST',
      authType: 'AK',
      style: 'RPC',
      reqBodyType: 'formData',
      bodyType: 'json',
    })
    const request = new OpenApiRequest(inBody ? { body: parameters } : { query: parameters })
    const answer = (await client.callApi(params, request, new RuntimeOptions({}))) as { body: Answer }
    return answer.body
  }
}

/** The official clients, unchanged but for their endpoint, against this door behind a bare HTTP server. */
suite('official clients', () => {
  let bench: Bench
  let served: ServedBench
  let host: string

  before(async () => {
    bench = createBench()
    served = await serveBench(bench)
    host = served.host
  })
  after(() => served.close())

  for (const [name, algorithm, inBody] of [
    ['openapi-client, ACS3, query', undefined, false],
    ['openapi-client, ACS3, form', undefined, true],
    ['openapi-client, older scheme', 'v2', false],
  ] as const) {
    test(name, async () => {
      const call = openApi(host, algorithm)
      const machine = fakeMachine('one')
      bench.app.machineRows.splice(0, Number.POSITIVE_INFINITY, machine)
      const made = await call('CreateImage', { ...NAMES, DesktopId: `ecd-${machine.id}` }, inBody)
      assert.match(String(made.ImageId), /^m-[0-9a-z]{17}$/)
      const input = bench.app.calls.at(-1)?.input as { name: string; description: string }
      assert.equal(input.name, NAMES.ImageName)
      assert.equal(input.description, NAMES.Description)
      // This client takes text alone in its query.
      const cleaned = { ...NAMES, DesktopId: `ecd-${machine.id}`, AutoCleanUserdata: 'true' }
      await call('CreateImage', cleaned, inBody)
      assert.deepEqual((bench.app.calls.at(-1)?.input as { clean?: unknown } | undefined)?.clean, CLEAN_ALL)
      await assert.rejects(call('CreateImage', { ...NAMES, DesktopId: 'ecd-none' }, inBody), {
        code: 'InvalidDesktopId.NotFound',
      })
    })
  }

  for (const method of ['GET', 'POST'] as const) {
    test(`pop-core, ${method}`, async () => {
      const options = { accessKeyId: KEY.keyId, accessKeySecret: KEY.secret, endpoint: `http://${host}` }
      const client = new RpcClient({ ...options, apiVersion: '2020-09-30' })
      const machine = fakeMachine('one')
      bench.app.machineRows.splice(0, Number.POSITIVE_INFINITY, machine)
      const parameters = { ...NAMES, DesktopId: `ecd-${machine.id}`, AutoCleanUserdata: false }
      const made = await client.request<{ ImageId: string }>('CreateImage', parameters, { method })
      assert.match(made.ImageId, /^m-[0-9a-z]{17}$/)
      const input = bench.app.calls.at(-1)?.input as { name: string; description: string }
      assert.equal(input.description, NAMES.Description)
      assert.ok(!('clean' in input))
      await client.request('CreateImage', { ...parameters, AutoCleanUserdata: true }, { method })
      assert.deepEqual((bench.app.calls.at(-1)?.input as { clean?: unknown } | undefined)?.clean, CLEAN_ALL)
      await assert.rejects(
        client.request('CreateImage', { RegionId: 'mars', DesktopId: parameters.DesktopId }, { method }),
        {
          code: 'InvalidRegionId.NotFound',
        },
      )
      const wrong = new RpcClient({ ...options, accessKeySecret: 'wrong', apiVersion: '2020-09-30' })
      await assert.rejects(wrong.request('DescribeRegions', { RegionId: 'cn-hangzhou' }, { method }), {
        code: 'SignatureDoesNotMatch',
      })
    })
  }

  /** An upload with every parameter that has a meaning here, and one that has none. */
  async function uploadFlow(call: (action: string, given: Record<string, string>) => Promise<Answer>) {
    const given = {
      ...NAMES,
      OssObjectPath: 'https://bucket:oss.example.com/a%20b.vhd?Signature=a%2Bb%3D&x=y',
    }
    const made = await call('UploadImage', {
      ...given,
      ...{ OsType: 'Windows', ProtocolType: 'ASP', LicenseType: 'Auto', EnableSecurityCheck: 'true' },
    })
    assert.match(String(made.ImageId), /^m-[0-9a-z]{17}$/)
    assert.match(String(made.RequestId), /^[0-9A-F-]{36}$/)
    assert.deepEqual(bench.app.calls.at(-1)?.input, {
      regionId: NAMES.RegionId,
      name: NAMES.ImageName,
      description: NAMES.Description,
      kind: 'custom',
      osType: 'Windows',
      from: {
        is: 'url',
        source: { url: 'https://bucket.oss.example.com/a%20b.vhd?Signature=a%2Bb%3D&x=y' },
      },
    })
    await assert.rejects(call('UploadImage', { ...given, SystemDiskSize: '40' }), {
      code: 'InvalidSystemDiskSize.Unsupported',
    })
    await assert.rejects(call('UploadImage', { RegionId: NAMES.RegionId, ImageName: NAMES.ImageName }), {
      code: 'MissingOssObjectPath',
    })
  }

  /** As Terraform's ecd_snapshot and ecd_image go about it, with every parameter there is, and the refusals. */
  async function snapshotFlow(call: (action: string, given: Record<string, string>) => Promise<Answer>) {
    const { app } = bench
    const machine = fakeMachine('one')
    const [root, data] = [fakeSnapshot('root', 'one'), fakeSnapshot('data', 'one')]
    app.machineRows.splice(0, Number.POSITIVE_INFINITY, machine)
    app.snapshotRows.splice(0, Number.POSITIVE_INFINITY, root, data)
    const region = { RegionId: NAMES.RegionId }
    const desktop = { ...region, DesktopId: `ecd-${machine.id}` }

    const wish = {
      ...desktop,
      SnapshotName: '快照_a-1',
      SourceDiskType: 'SYSTEM',
      Description: NAMES.Description,
    }
    const made = await call('CreateSnapshot', wish)
    assert.match(String(made.SnapshotId), /^s-[0-9a-z]{17}$/)
    assert.match(String(made.RequestId), /^[0-9A-F-]{36}$/)
    assert.deepEqual(app.calls.at(-1)?.input, {
      regionId: region.RegionId,
      machineId: machine.id,
      disk: 'system',
      name: wish.SnapshotName,
      description: wish.Description,
    })
    await assert.rejects(call('CreateSnapshot', { ...wish, SnapshotName: 'auto-1' }), {
      code: 'InvalidSnapshotName.Malformed',
    })
    await assert.rejects(
      call('CreateSnapshot', { ...region, SnapshotName: 'a1', SourceDiskType: 'SYSTEM' }),
      {
        code: 'MissingDesktopId',
      },
    )

    const id = `s-${root.id}`
    const listed = await call('DescribeSnapshots', {
      ...desktop,
      SnapshotId: id,
      SnapshotName: root.name,
      SnapshotType: 'user',
      DesktopName: machine.name,
      SourceDiskType: 'System',
      OsType: 'Linux',
      Creator: root.creator,
      StartTime: '2020-01-01T00:00:00Z',
      EndTime: '2030-01-01T00:00:00Z',
      MaxResults: '50',
    })
    const [item] = listed.Snapshots as Answer[]
    assert.deepEqual(
      [item?.SnapshotId, item?.Status, item?.SourceDiskType, item?.SourceDiskSize, item?.DesktopStatus],
      [id, 'ACCOMPLISHED', 'SYSTEM', '4', 'Running'],
    )
    const first = await call('DescribeSnapshots', { ...region, MaxResults: '1' })
    const NextToken = String(first.NextToken)
    const second = await call('DescribeSnapshots', { ...region, MaxResults: '1', NextToken })
    assert.deepEqual([(second.Snapshots as Answer[])[0]?.SnapshotName, second.NextToken], ['data', ''])
    const gone = await call('DescribeSnapshots', {
      ...region,
      SnapshotId: `s-${fakeCore<SnapshotId>('none')}`,
    })
    assert.deepEqual(gone.Snapshots, [])
    await assert.rejects(call('DescribeSnapshots', { ...region, EndTime: 'now' }), { code: 'InvalidEndTime' })

    const image = await call('CreateImage', {
      ...desktop,
      'SnapshotIds.1': id,
      'DataSnapshotIds.1': `s-${data.id}`,
      DiskType: 'ALL',
      ImageName: NAMES.ImageName,
      Description: NAMES.Description,
    })
    assert.match(String(image.ImageId), /^m-[0-9a-z]{17}$/)
    assert.deepEqual(app.calls.at(-1)?.input, {
      regionId: region.RegionId,
      machineId: machine.id,
      snapshotIds: [root.id, data.id],
      systemSnapshotIds: [],
      dataSnapshotIds: [data.id],
      disks: 'all',
      name: NAMES.ImageName,
      description: NAMES.Description,
    })
    for (const field of ['SnapshotId', 'SnapshotIds.1', 'DataSnapshotIds.1'])
      await assert.rejects(call('CreateImage', { ...region, [field]: 's-none' }), {
        code: 'InvalidSnapshotId.NotFound',
      })

    await call('ResetSnapshot', { ...region, SnapshotId: id, StopDesktop: 'true' })
    assert.deepEqual(app.calls.at(-1)?.input, {
      regionId: region.RegionId,
      snapshotId: root.id,
      stopFirst: true,
    })
    await assert.rejects(call('ResetSnapshot', { ...region, SnapshotId: 's-none' }), {
      code: 'InvalidSnapshotId.NotFound',
    })

    await call('DeleteSnapshot', { ...region, 'SnapshotId.1': id, 'SnapshotId.2': 's-none' })
    assert.deepEqual(app.calls.at(-1)?.input, {
      regionId: region.RegionId,
      snapshotIds: [root.id],
      ignoreUnknown: true,
    })
    await assert.rejects(call('DeleteSnapshot', region), { code: 'MissingSnapshotId' })

    for (const [action, given, fault, code] of [
      ['CreateSnapshot', wish, new Fault('conflict', 'm', { subject: 'machine' }), 'IncorrectDesktopStatus'],
      ['CreateSnapshot', wish, new Fault('full', 'm', { subject: 'snapshot' }), 'QuotaExceeded.Snapshot'],
      [
        'CreateImage',
        { ...region, SnapshotId: id },
        new Fault('invalid', 'm', { subject: 'snapshot', reason: 'no-system-disk' }),
        'InvalidSnapshotIds.NoSystemDisk',
      ],
      [
        'DeleteSnapshot',
        { ...region, 'SnapshotId.1': id },
        new Fault('conflict', 'm', { subject: 'snapshot', reason: 'linked' }),
        'SnapshotUsedByImage',
      ],
      [
        'ResetSnapshot',
        { ...region, SnapshotId: id },
        new Fault('conflict', 'm', { subject: 'machine' }),
        'IncorrectDesktopStatus',
      ],
    ] as const) {
      app.failure = fault
      await assert.rejects(call(action, given), { code })
      app.failure = undefined
    }
    assert.deepEqual(bench.bugs, [])
  }

  for (const [name, algorithm, inBody] of [
    ['openapi-client, ACS3, query', undefined, false],
    ['openapi-client, older scheme', 'v2', false],
    // Terraform's way: the parameters in a form.
    ['openapi-client, ACS3, form', undefined, true],
  ] as const) {
    test(`snapshots, uploads and copies: ${name}`, async () => {
      const call = openApi(host, algorithm)
      await snapshotFlow((action, given) => call(action, given, inBody))
      await uploadFlow((action, given) => call(action, given, inBody))
      await copyFlow(bench, (action, given) => call(action, given, inBody))
    })
  }

  for (const method of ['GET', 'POST'] as const) {
    test(`snapshots, uploads and copies: pop-core, ${method}`, async () => {
      const options = { accessKeyId: KEY.keyId, accessKeySecret: KEY.secret, endpoint: `http://${host}` }
      const client = new RpcClient({ ...options, apiVersion: '2020-09-30' })
      await snapshotFlow((action, given) => client.request<Answer>(action, given, { method }))
      await uploadFlow((action, given) => client.request<Answer>(action, given, { method }))
      await copyFlow(bench, (action, given) => client.request<Answer>(action, given, { method }))
    })
  }
})
