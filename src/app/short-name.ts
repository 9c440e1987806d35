import { Fault } from '../image/fault.ts'

/** What people call a thing of a project, for a list: 1 to 64 characters. Throws Fault 'invalid' 'name'. */
export function refuseShortName(what: string, name: string): void {
  if (name.length > 0 && [...name].length <= 64 && !/^\s|\s$|\p{Cc}/u.test(name)) return
  const message = `A ${what} name has 1 to 64 characters, no control characters, no blanks at its ends.`
  throw new Fault('invalid', message, { field: 'name', subject: 'name' })
}
