import { Fault } from '../../image/fault.ts'

const TOKEN = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/
/** More than any double has; a larger exponent would make a request of ten characters fill the memory. */
const EXPONENT_MAX = 400

/**
 * A JSON number token as the plain decimal that is signed: no exponent, no zeros at the end of the fraction,
 * exact for any count of digits. Throws Fault 'invalid' for exponents beyond ±400. Source: uhost.md §2.1.
 */
export function plainDecimal(token: string): string {
  const match = TOKEN.exec(token)
  const exponent = Number(match?.[4] ?? 0)
  if (!match || Math.abs(exponent) > EXPONENT_MAX) {
    throw new Fault('invalid', `The number '${token.slice(0, 40)}' is out of range.`, { field: 'Body' })
  }
  const [, sign = '', whole = '', fraction = ''] = match
  const digits = whole + fraction
  const point = whole.length + exponent
  const left = digits.slice(0, Math.max(point, 0)).padEnd(point, '0').replace(/^0+/, '') || '0'
  const right = ('0'.repeat(Math.max(-point, 0)) + digits.slice(Math.max(point, 0))).replace(/0+$/, '')
  const plain = right === '' ? left : `${left}.${right}`
  return plain === '0' ? plain : sign + plain
}
