import { Fault } from '../../image/fault.ts'

/** For a parameter whose value no request may carry yet: code `Invalid<Name>.Unsupported`. */
export function unsupported(message: string): (value: unknown, name: string) => Fault {
  return (_value, name) => new Fault('invalid', message, { field: name, reason: 'unsupported' })
}

/** As `unsupported`, for a switch that is harmless while it is off. */
export function unlessFalse(message: string): (value: boolean, name: string) => Fault | undefined {
  return (value, name) => (value ? unsupported(message)(value, name) : undefined)
}

/** For a parameter that names a kind of thing of which there are none here: code `Invalid<Name>.NotFound`. */
export function noneExist(message: string): (value: unknown, name: string) => Fault {
  return (_value, name) => new Fault('absent', message, { field: name })
}
