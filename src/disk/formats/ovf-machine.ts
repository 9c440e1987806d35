import type { ArchivedMachine } from './contract.ts'
import { allIn, childrenOf, type OvfElement, onlyChild, refuseDescription } from './ovf-document.ts'
import { parseUnit } from './ovf-units.ts'

const PROCESSOR = '3'
const MEMORY = '4'
const TEXT_LENGTH_MAX = 128

/** What a description says of the machine itself; what cannot be understood is as if it were not there. */
export function machineOf(system: OvfElement): ArchivedMachine {
  const hardware = onlyChild(system, 'VirtualHardwareSection')
  const items = hardware === undefined ? [] : childrenOf(hardware, 'Item')
  const os = onlyChild(system, 'OperatingSystemSection')
  return {
    name: shown(onlyChild(system, 'Name')?.text) ?? shown(system.attributes.get('id')),
    osName: shown(os && onlyChild(os, 'Description')?.text) ?? shown(os?.attributes.get('osType')),
    firmware: firmwareOf(system),
    cpuCount: quantityOf(items, PROCESSOR)?.count,
    memoryBytes: memoryOf(items),
  }
}

/** The first item of a type that is for every configuration, and no bound of a range. */
function quantityOf(
  items: readonly OvfElement[],
  type: string,
): { count: number; unit: string | undefined } | undefined {
  for (const item of items) {
    if (onlyText(item, 'ResourceType') !== type || item.attributes.has('bound')) continue
    const count = onlyText(item, 'VirtualQuantity') ?? ''
    if (!/^[1-9][0-9]{0,11}$/.test(count)) return undefined
    return { count: Number(count), unit: onlyText(item, 'AllocationUnits') }
  }
  return undefined
}

function memoryOf(items: readonly OvfElement[]): number | undefined {
  const memory = quantityOf(items, MEMORY)
  const unitBytes = memory && parseUnit(memory.unit ?? 'byte * 2^20')
  const bytes = memory && unitBytes !== undefined ? memory.count * unitBytes : undefined
  return bytes !== undefined && Number.isSafeInteger(bytes) ? bytes : undefined
}

/** VMware's entry of its configuration, or VirtualBox's element. Two that disagree are refused: which one is used? */
function firmwareOf(system: OvfElement): ArchivedMachine['firmware'] {
  const found = new Set<'bios' | 'uefi'>()
  for (const element of allIn(system)) {
    const isEntry = /^(Extra)?Config$/.test(element.name) && element.attributes.get('key') === 'firmware'
    const value = isEntry ? element.attributes.get('value') : undefined
    const type = element.name === 'Firmware' ? element.attributes.get('type') : undefined
    const firmware = (value ?? type)?.toLowerCase()
    if (firmware?.startsWith('efi') === true) found.add('uefi')
    if (firmware === 'bios') found.add('bios')
  }
  if (found.size > 1) throw refuseDescription()
  return [...found][0]
}

function onlyText(item: OvfElement, name: string): string | undefined {
  return childrenOf(item, name)[0]?.text
}

/** One short line that can be shown. */
function shown(text: string | undefined): string | undefined {
  const line = text?.replaceAll(/[\p{C}\s]+/gu, ' ').trim()
  return line === undefined || line === '' ? undefined : [...line].slice(0, TEXT_LENGTH_MAX).join('')
}
