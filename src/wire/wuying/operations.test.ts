import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import type { NewMachine } from '../../app/contract.ts'
import { CLEAN_ALL } from '../../image/cleaning.ts'
import { GIB } from '../../image/region.ts'
import { contentOf, refusalOf } from './fixture-requests.ts'
import { attachment, BASE, benchWithRows, DESKTOP, LEAST } from './fixture-rows.ts'
import { OPERATIONS } from './operations/index.ts'
import { operationsReference } from './reference.ts'

suite('the table of operations', () => {
  const golden = JSON.parse(readFileSync(new URL('./golden.json', import.meta.url), 'utf8')) as Record<
    string,
    string
  >
  for (const operation of OPERATIONS) {
    test(`${operation.name} is introspectable, and its action is its own name`, () => {
      assert.equal(operation.action, `ecd:${operation.name}`)
      for (const [name, { rule, use, note }] of Object.entries(operation.parameters)) {
        assert.notEqual(rule.takes, '', name)
        if (use === 'accepted' || use === 'refused') assert.notEqual(note, '', `${name} says why`)
      }
    })

    test(`${operation.name} makes one call inward and answers as recorded`, async () => {
      const bench = benchWithRows()
      const answer = await bench.ask(operation.name, LEAST[operation.name] ?? {})
      assert.equal(answer.status, 200, String(answer.body))
      // DescribeSnapshots shows what its computers do, too.
      const looks = operation.name === 'DescribeSnapshots' ? ['machines.list'] : []
      assert.deepEqual(
        bench.app.calls.slice(1).map((call) => call.name),
        looks,
      )
      assert.equal(bench.app.calls[0]?.caller.door, 'wuying')
      // The text itself: order and types of the keys are part of what clients see.
      assert.equal(answer.body, golden[operation.name])
      assert.deepEqual(bench.bugs, [])
    })

    test(`${operation.name} needs a region that exists, and says what is missing`, async () => {
      const bench = benchWithRows()
      const least = LEAST[operation.name] ?? {}
      const nowhere = await bench.ask(operation.name, { ...least, RegionId: 'mars' })
      assert.deepEqual(refusalOf(nowhere), [404, 'InvalidRegionId.NotFound'])
      const odd = await bench.ask(operation.name, { ...least, RegionId: 'A B' })
      assert.deepEqual(refusalOf(odd), [400, 'InvalidRegionId.Malformed'])
      for (const [name, { use }] of Object.entries(operation.parameters)) {
        if (use !== 'required') continue
        const without = Object.entries(least).filter(([key]) => key.split('.')[0] !== name)
        const answer = await bench.ask(operation.name, {
          ...Object.fromEntries(without),
          ...(name === 'RegionId' ? { RegionId: '' } : {}),
        })
        assert.deepEqual(refusalOf(answer), [400, `Missing${name}`])
        assert.match(
          String(contentOf(answer).Message),
          new RegExp(`^${name} is mandatory for this action\\.`),
        )
      }
      assert.deepEqual(bench.app.calls, [])
    })

    test(`${operation.name} ignores parameters it does not know`, async () => {
      const answer = await benchWithRows().ask(operation.name, {
        ...LEAST[operation.name],
        Unheard: 'x',
        'Unheard.1.Of': 'y',
      })
      assert.equal(answer.status, 200, String(answer.body))
    })
  }

  test('the reference in docs/wire-wuying.md is the table', () => {
    const docs = readFileSync(new URL('../../../docs/wire-wuying.md', import.meta.url), 'utf8')
    assert.ok(docs.includes(operationsReference()), 'write the output of operationsReference() into the page')
  })
})

suite('what reaches the inside', () => {
  const inputOf = async (action: string, parameters: Record<string, string>): Promise<unknown> => {
    const bench = benchWithRows()
    const answer = await bench.ask(action, parameters)
    assert.equal(answer.status, 200, String(answer.body))
    return bench.app.calls[0]?.input
  }

  test('CreateDesktops with everything', async () => {
    const input = (await inputOf('CreateDesktops', {
      ...attachment({
        SystemDiskSize: 80,
        SystemDiskCategory: 'cloud_auto',
        SystemDiskPerLevel: 'PL1',
        DataDiskSize: '100',
        DefaultLanguage: 'en-US',
      }),
      Amount: '3',
      DesktopName: '桌面.a:b_c-1',
      ChargeType: 'Postpaid',
      OfficeSiteId: 'cn-hangzhou+dir-1',
      PolicyGroupId: 'system-all-enabled-policy',
      'EndUserId.1': 'alice',
      'EndUserId.2': 'bob',
      Hostname: 'host-[001,3]',
      'Tag.1.Key': 'team',
      'Tag.1.Value': 'red',
      'Tag.2.Key': 'empty',
      'Tag.2.Value': '',
      VolumeEncryptionEnabled: 'False',
      PurchaseOptions: '{"MonthlyCredits":3}',
    })) as NewMachine
    assert.deepEqual(input, {
      regionId: 'cn-hangzhou',
      imageId: BASE.slice(2),
      name: '桌面.a:b_c-1',
      numberedNames: true,
      count: 3,
      cpuCount: 2,
      memoryBytes: 4 * GIB,
      typeName: 'eds.enterprise_office.2c4g',
      systemDiskBytes: 80 * GIB,
      systemDiskCategory: 'cloud_auto',
      dataDisks: [{ sizeBytes: 100 * GIB, category: 'cloud_essd' }],
      tag: '',
      labels: [
        { key: 'team', value: 'red' },
        { key: 'empty', value: '' },
      ],
      details: {
        chargeType: 'PostPaid',
        officeSiteId: 'cn-hangzhou+dir-1',
        policyGroupId: 'system-all-enabled-policy',
        endUserIds: ['alice', 'bob'],
        userAssignMode: 'ALL',
        resourceGroupId: '',
        hostName: 'host-[001,3]',
        systemDiskLevel: 'PL1',
        dataDiskLevel: 'PL0',
      },
    })
  })

  test('an image of another door’s spelling, and equal names for several', async () => {
    const input = (await inputOf('CreateDesktops', {
      ...attachment({ ImageId: `uimage-${BASE.slice(2)}`, DataDiskSize: 0 }),
      Amount: '2',
      DesktopNameSuffix: 'false',
    })) as NewMachine
    assert.equal(input.imageId, BASE.slice(2))
    assert.equal(input.numberedNames, false)
    assert.deepEqual(input.dataDisks, [])
    assert.equal(input.systemDiskBytes, undefined)
  })

  test('CreateImage', async () => {
    const parameters = {
      DesktopId: DESKTOP,
      ImageName: '镜像:v1_a-b',
      Description: 'a b',
      DiskType: 'SYSTEM',
    }
    for (const [AutoCleanUserdata, clean] of [
      ['false', {}],
      ['true', { clean: CLEAN_ALL }],
      ['True', { clean: CLEAN_ALL }],
    ] as const) {
      assert.deepEqual(await inputOf('CreateImage', { ...parameters, AutoCleanUserdata }), {
        regionId: 'cn-hangzhou',
        machineId: DESKTOP.slice(4),
        name: '镜像:v1_a-b',
        description: 'a b',
        disks: 'system',
        ...clean,
      })
    }
  })

  test('a batch names each computer once', async () => {
    const parameters = { 'DesktopId.1': DESKTOP, 'DesktopId.2': DESKTOP }
    assert.deepEqual(await inputOf('StopDesktops', parameters), {
      regionId: 'cn-hangzhou',
      machineIds: [DESKTOP.slice(4)],
      how: 'graceful',
    })
    assert.deepEqual(await inputOf('DeleteDesktops', { DesktopId: DESKTOP }), {
      regionId: 'cn-hangzhou',
      machineIds: [DESKTOP.slice(4)],
      stoppedOnly: false,
    })
  })
})
