import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { CLEAN_ALL } from '../../image/cleaning.ts'
import { Fault } from '../../image/fault.ts'
import type { SnapshotId } from '../../image/ids.ts'
import { CREATED_AT_MS, contentOf, refusalOf } from './fixture-requests.ts'
import { benchWithRows, DATA, DESKTOP, LEAST, ROOT } from './fixture-rows.ts'
import { fakeCore } from './fixture-things.ts'

type Given = Record<string, string>
type Shown = Record<string, unknown> & { readonly SnapshotName: string }

async function shown(parameters: Given, bench = benchWithRows()): Promise<Shown[]> {
  const answer = await bench.ask('DescribeSnapshots', parameters)
  assert.equal(answer.status, 200, String(answer.body))
  assert.equal(bench.app.calls[0]?.name, 'snapshots.list', 'the right to list is checked whatever the filter')
  return contentOf(answer).Snapshots as Shown[]
}

suite('DescribeSnapshots', () => {
  const all = ['root', 'data', 'auto-1', 'waiting', 'bad', 'linked', 'orphan']
  const rest = ['root', 'data', 'waiting', 'bad', 'linked', 'orphan']
  const cases: [Given, string[]][] = [
    [{}, all],
    [{ SnapshotId: ROOT }, ['root']],
    [{ SnapshotId: ROOT.replace('s-', 'bsSnap-') }, ['root']],
    [{ SnapshotId: `s-${fakeCore<SnapshotId>('none')}` }, []],
    [{ SnapshotId: 's-unknown' }, []],
    [{ SnapshotName: 'data' }, ['data']],
    [{ SnapshotName: 'dat' }, []],
    [{ DesktopId: DESKTOP }, ['root', 'data']],
    [{ DesktopId: 'ecd-unknown' }, []],
    [{ DesktopName: 'one' }, ['root', 'data']],
    [{ DesktopId: DESKTOP, SourceDiskType: 'Data' }, ['data']],
    [{ SourceDiskType: 'data' }, ['data']],
    [{ SourceDiskType: 'SYSTEM', DesktopName: 'one' }, ['root']],
    [{ OsType: 'windows' }, ['auto-1']],
    [{ OsType: 'Linux', DesktopName: 'two' }, []],
    [{ Creator: 'nightly' }, ['auto-1']],
    [{ SnapshotType: 'all' }, all],
    [{ SnapshotType: 'auto' }, ['auto-1']],
    [{ SnapshotType: 'USER' }, rest],
    [{ StartTime: '2026-11-21T19:44:49Z' }, rest.slice(0, -1)],
    [{ StartTime: '2026-11-21T19:44:50Z' }, []],
    [{ EndTime: '2026-11-21T19:44:48Z' }, ['auto-1', 'orphan']],
    [{ StartTime: '2026-11-21T19:44:49Z', EndTime: '2026-11-21T19:44:49Z' }, rest.slice(0, -1)],
    [{ RegionId: 'cn-shanghai' }, ['far']],
  ]
  for (const [parameters, expected] of cases)
    test(JSON.stringify(parameters), async () =>
      assert.deepEqual(
        (await shown(parameters)).map((item) => item.SnapshotName),
        expected,
      ),
    )

  test('a snapshot made in the middle of a second is in that second', async () => {
    const bench = benchWithRows()
    const [root] = bench.app.snapshotRows
    assert.ok(root)
    bench.app.snapshotRows.splice(0, Number.POSITIVE_INFINITY, { ...root, createdAtMs: CREATED_AT_MS + 999 })
    const second = '2026-11-21T19:44:49Z'
    const [item] = await shown({ StartTime: second, EndTime: second }, bench)
    assert.equal(item?.CreationTime, second)
  })

  test('what is said of each state', async () => {
    const items = await shown({})
    const words = ({ SnapshotName, SnapshotType, Status, Progress, RemainTime }: Shown): unknown[] => [
      SnapshotName,
      SnapshotType,
      Status,
      Progress,
      RemainTime,
    ]
    assert.deepEqual(items.map(words), [
      ['root', 'USER', 'ACCOMPLISHED', '100%', 0],
      ['data', 'USER', 'ACCOMPLISHED', '100%', 0],
      // A quarter took 30 seconds, so the rest will take 90.
      ['auto-1', 'AUTO', 'PROGRESSING', '25%', 90],
      ['waiting', 'USER', 'PROGRESSING', '0%', -1],
      ['bad', 'USER', 'FAILED', '1%', 0],
      ['linked', 'USER', 'ACCOMPLISHED', '100%', 0],
      ['orphan', 'USER', 'ACCOMPLISHED', '100%', 0],
    ])
  })

  test('the computers are looked up in one call, and what is gone is Deleted', async () => {
    const bench = benchWithRows()
    const items = await shown({}, bench)
    assert.deepEqual(
      items.map(({ DesktopName, DesktopStatus, DiskStatus }) => [DesktopName, DesktopStatus, DiskStatus]),
      [
        ['one', 'Running', 'Available'],
        ['one', 'Running', 'Available'],
        ['two', 'Stopped', 'Available'],
        ['three', 'Pending', 'Available'],
        ['four', 'Failed', 'Available'],
        ['gone', 'Deleted', undefined],
        ['nobody', 'Deleted', undefined],
      ],
    )
    assert.deepEqual(
      bench.app.calls.map(({ name }) => name),
      ['snapshots.list', 'machines.list'],
    )
    const ids = [...new Set(bench.app.snapshotRows.slice(0, -1).map(({ machineId }) => machineId))]
    assert.deepEqual(bench.app.calls[1]?.input, {
      filter: { regionId: 'cn-hangzhou', ids },
      paging: { offset: 0, limit: 6 },
    })
  })

  test('who may not see computers learns nothing of their state', async () => {
    const bench = benchWithRows()
    bench.app.machinesDenied = true
    for (const item of await shown({}, bench)) assert.equal('DesktopStatus' in item, false)
    assert.deepEqual(bench.bugs, [])
  })

  test('is walked by its tokens, which are good for these filters alone', async () => {
    const bench = benchWithRows()
    const whole = (await shown({})).map((item) => item.SnapshotName)
    const walked: string[] = []
    let token = ''
    do {
      const parameters: Given = { MaxResults: '3', ...(token === '' ? {} : { NextToken: token }) }
      const content = contentOf(await bench.ask('DescribeSnapshots', parameters))
      walked.push(...(content.Snapshots as Shown[]).map((item) => item.SnapshotName))
      token = String(content.NextToken)
      if (token === '') continue
      for (const other of [{ SnapshotType: 'user' }, { RegionId: 'cn-shanghai' }] as Given[])
        assert.deepEqual(refusalOf(await bench.ask('DescribeSnapshots', { ...other, NextToken: token })), [
          400,
          'InvalidNextToken',
        ])
    } while (token !== '')
    assert.deepEqual(walked, whole)
  })
})

suite('what snapshots ask of the inside', () => {
  const callOf = async (
    action: string,
    parameters: Given,
  ): Promise<readonly [string | undefined, unknown]> => {
    const bench = benchWithRows()
    const answer = await bench.ask(action, parameters)
    assert.equal(answer.status, 200, String(answer.body))
    assert.equal(bench.app.calls.length, 1)
    return [bench.app.calls[0]?.name, bench.app.calls[0]?.input]
  }
  const regionId = 'cn-hangzhou'
  const machineId = DESKTOP.slice(4)
  const [root, data] = [ROOT.slice(2), DATA.slice(2)]

  test('CreateSnapshot', async () => {
    const given = { DesktopId: DESKTOP, SnapshotName: '快照_a-1', Description: 'http://a b' }
    for (const [SourceDiskType, disk] of [
      ['SYSTEM', 'system'],
      ['system', 'system'],
      ['DATA', 'data'],
      ['Data', 'data'],
    ] as const)
      assert.deepEqual(await callOf('CreateSnapshot', { ...given, SourceDiskType }), [
        'snapshots.create',
        { regionId, machineId, disk, name: given.SnapshotName, description: given.Description },
      ])
  })

  test('names at the edges of the rule', async () => {
    for (const SnapshotName of ['ab', 'Automatic', 'aut', `a${'-'.repeat(126)}`])
      await callOf('CreateSnapshot', { ...LEAST.CreateSnapshot, SnapshotName })
  })

  test('DeleteSnapshot leaves out what nobody could have been given, and asks even for nothing', async () => {
    const unknown = `s-${fakeCore<SnapshotId>('none')}`
    const ids = {
      'SnapshotId.1': ROOT,
      'SnapshotId.2': 'ecd-x',
      'SnapshotId.3': ROOT,
      'SnapshotId.4': unknown,
    }
    assert.deepEqual(await callOf('DeleteSnapshot', ids), [
      'snapshots.remove',
      { regionId, snapshotIds: [root, unknown.slice(2)], ignoreUnknown: true },
    ])
    assert.deepEqual(await callOf('DeleteSnapshot', { SnapshotId: 'x' }), [
      'snapshots.remove',
      { regionId, snapshotIds: [], ignoreUnknown: true },
    ])
  })

  test('ResetSnapshot', async () => {
    for (const [change, stopFirst] of [
      [{}, false],
      [{ StopDesktop: 'false' }, false],
      [{ StopDesktop: 'true' }, true],
    ] as [Given, boolean][])
      assert.deepEqual(await callOf('ResetSnapshot', { SnapshotId: ROOT, ...change }), [
        'snapshots.reset',
        { regionId, snapshotId: root, stopFirst },
      ])
  })

  test('CreateImage of snapshots', async () => {
    const composed = (change: object): unknown => [
      'images.compose',
      {
        regionId,
        name: undefined,
        description: undefined,
        machineId: undefined,
        snapshotIds: [root],
        systemSnapshotIds: [],
        dataSnapshotIds: [],
        disks: undefined,
        ...change,
      },
    ]
    const other = fakeCore<SnapshotId>('linked')
    assert.deepEqual(
      await callOf('CreateImage', { SnapshotId: ROOT, ImageName: 'of-snapshots', Description: 'a b' }),
      composed({ systemSnapshotIds: [root], name: 'of-snapshots', description: 'a b' }),
    )
    assert.deepEqual(await callOf('CreateImage', { 'SnapshotIds.1': ROOT }), composed({}))
    assert.deepEqual(
      await callOf('CreateImage', { SnapshotId: ROOT, AutoCleanUserdata: 'true' }),
      composed({ systemSnapshotIds: [root], clean: CLEAN_ALL }),
    )
    assert.deepEqual(
      await callOf('CreateImage', { 'SnapshotIds.1': ROOT, DiskType: 'SYSTEM' }),
      composed({ disks: 'system' }),
    )
    assert.deepEqual(
      await callOf('CreateImage', {
        DesktopId: DESKTOP,
        SnapshotId: ROOT,
        'SnapshotIds.1': `s-${other}`,
        'DataSnapshotIds.1': DATA,
        DiskType: 'ALL',
      }),
      composed({
        machineId,
        snapshotIds: [root, other, data],
        systemSnapshotIds: [root],
        dataSnapshotIds: [data],
        disks: 'all',
      }),
    )
    assert.deepEqual(
      await callOf('CreateImage', { 'DataSnapshotIds.1': DATA }),
      composed({ snapshotIds: [data], dataSnapshotIds: [data] }),
    )
  })

  test('CreateImage refuses a snapshot that is named twice, in one list or in two', async () => {
    for (const given of [
      { SnapshotId: ROOT, 'SnapshotIds.1': ROOT },
      { SnapshotId: ROOT, 'SnapshotIds.1': DATA, 'SnapshotIds.2': DATA },
      { SnapshotId: ROOT, 'SnapshotIds.1': DATA, 'DataSnapshotIds.1': DATA },
      { SnapshotId: ROOT, 'DataSnapshotIds.1': DATA, 'DataSnapshotIds.2': DATA },
    ] as Given[]) {
      const answer = await benchWithRows().ask('CreateImage', given)
      assert.deepEqual(refusalOf(answer), [400, 'InvalidSnapshotIds.DiskTwice'])
      assert.match(String(contentOf(answer).Message), /^Snapshot s-\w{17} is named twice\./)
    }
  })
})

suite('what the inside refuses of snapshots', () => {
  const snapshot = 'snapshot' as const
  const table: [string, Fault, number, string][] = [
    ['CreateImage', new Fault('absent', 'm', { subject: snapshot }), 404, 'InvalidSnapshotId.NotFound'],
    ['CreateImage', new Fault('conflict', 'm', { subject: snapshot }), 400, 'IncorrectSnapshotStatus'],
    ['CreateImage', new Fault('corrupt', 'm', { subject: snapshot }), 400, 'IncorrectSnapshotStatus'],
    ...(
      [
        ['disk-twice', 'InvalidSnapshotIds.DiskTwice'],
        ['several-machines', 'InvalidSnapshotIds.SeveralDesktops'],
        ['no-system-disk', 'InvalidSnapshotIds.NoSystemDisk'],
        ['disk-missing', 'InvalidSnapshotIds.DiskMissing'],
        ['not-system', 'InvalidSnapshotId.NotSystemDisk'],
        ['not-data', 'InvalidDataSnapshotIds.NotDataDisk'],
      ] as const
    ).map(([reason, code]): [string, Fault, number, string] => [
      'CreateImage',
      new Fault('invalid', 'm', { subject: snapshot, reason, field: 'snapshotIds' }),
      400,
      code,
    ]),
    ['CreateImage', new Fault('full', 'm', { subject: 'image' }), 400, 'QuotaExceeded.Image'],
    ['CreateImage', new Fault('full', 'm', { subject: 'project' }), 400, 'QuotaExceeded.Storage'],
    ['CreateSnapshot', new Fault('absent', 'm', { subject: 'machine' }), 404, 'InvalidDesktopId.NotFound'],
    ['CreateSnapshot', new Fault('absent', 'm', { subject: 'disk' }), 404, 'InvalidSourceDiskType.NotFound'],
    [
      'CreateSnapshot',
      new Fault('invalid', 'm', { subject: 'disk', reason: 'several-disks' }),
      400,
      'InvalidSourceDiskType.SeveralDisks',
    ],
    ['CreateSnapshot', new Fault('conflict', 'm', { subject: 'machine' }), 400, 'IncorrectDesktopStatus'],
    [
      'CreateSnapshot',
      new Fault('conflict', 'm', { subject: 'machine', reason: 'capturing' }),
      400,
      'IncorrectDesktopStatus',
    ],
    ['CreateSnapshot', new Fault('full', 'm', { subject: snapshot }), 400, 'QuotaExceeded.Snapshot'],
    [
      'CreateSnapshot',
      new Fault('full', 'm', { subject: 'project', reason: 'quota' }),
      400,
      'QuotaExceeded.Storage',
    ],
    [
      'CreateSnapshot',
      new Fault('invalid', 'm', { subject: 'name', field: 'name' }),
      400,
      'InvalidSnapshotName.Malformed',
    ],
    [
      'CreateSnapshot',
      new Fault('invalid', 'm', { subject: 'description' }),
      400,
      'InvalidDescription.Malformed',
    ],
    [
      'DeleteSnapshot',
      new Fault('conflict', 'm', { subject: snapshot, reason: 'linked' }),
      400,
      'SnapshotUsedByImage',
    ],
    ['ResetSnapshot', new Fault('absent', 'm', { subject: snapshot }), 404, 'InvalidSnapshotId.NotFound'],
    ['ResetSnapshot', new Fault('absent', 'm', { subject: 'machine' }), 404, 'InvalidDesktopId.NotFound'],
    ['ResetSnapshot', new Fault('absent', 'm', { subject: 'disk' }), 404, 'InvalidDiskId.NotFound'],
    ['ResetSnapshot', new Fault('conflict', 'm', { subject: 'machine' }), 400, 'IncorrectDesktopStatus'],
    ['ResetSnapshot', new Fault('conflict', 'm', { subject: snapshot }), 400, 'IncorrectSnapshotStatus'],
    ['DescribeSnapshots', new Fault('denied', 'm', { subject: 'policy' }), 403, 'NoPermission'],
    ['DescribeSnapshots', new Fault('unavailable', 'm', { subject: 'store' }), 503, 'ServiceUnavailable'],
  ]
  for (const [action, fault, status, code] of table) {
    test(`${action}: ${fault.kind} ${fault.subject} ${fault.reason ?? ''}`, async () => {
      const bench = benchWithRows()
      bench.app.failure = fault
      const given = action === 'CreateImage' ? { SnapshotId: ROOT } : LEAST[action]
      const answer = await bench.ask(action, given)
      assert.deepEqual(refusalOf(answer), [status, code])
      const { Message } = contentOf(answer)
      // What this API cannot say, its own message tells.
      if (fault.reason === 'several-disks')
        assert.match(String(Message), /^This API takes the system disk, or/)
      else if (fault.kind !== 'denied') assert.equal(Message, 'm')
    })
  }
})
