import { describe, expect, it } from '@jest/globals';
import { identifyByConvention, toIdentity, toUserId } from '../../src/session/identity.js';

describe('a user id', () => {
  it('is the same user as number, bigint and string [lesson 6]', () => {
    expect([7, 7n, '7'].map((id) => toUserId({ id }))).toEqual(['7', '7', '7']);
    expect(toUserId({ id: 2n ** 64n })).toBe('18446744073709551616');
  });

  it.each(['07', '7 ', ' 7', '7.0', '+7', '٧'])('is another user when it is written %p', (id) => {
    expect(toUserId({ id })).toBe(id);
  });

  it.each(['a', '0', 'ü', '\u{1F600}', "'; --", '__proto__', 'a'.repeat(255)])(
    'may be the string %p',
    (id) => {
      expect(toUserId({ id })).toBe(id);
    },
  );

  it.each([
    NaN,
    Infinity,
    -Infinity,
    1.5,
    2 ** 53,
    '',
    null,
    undefined,
    true,
    {},
    [],
    ['7'],
    { toString: () => '7' },
    new String('7'),
    new Date(0),
    Symbol('7'),
    () => '7',
    'a'.repeat(256),
    'a'.repeat(300),
    'a\0b',
    '\0',
    '\ud800',
    'a\udfffb',
    '\udc00\ud800',
  ])('is refused when it is %p [lesson 6]', (id) => {
    expect(() => toUserId({ id: id as never })).toThrow(TypeError);
    expect(() => toIdentity({ id: id as never, username: 'x', roles: [] })).toThrow(/user id/);
  });

  it('is refused when there is no user at all', () => {
    for (const user of [null, undefined]) expect(() => toUserId(user)).toThrow(/user id/);
  });

  it('is not shown in the message that refuses it', () => {
    expect(() => toUserId({ id: 'secret\0' })).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('secret') }),
    );
  });
});

describe('an identity by convention', () => {
  it('takes the username, else the e-mail address, else the id', () => {
    expect(identifyByConvention({ id: 1, username: 'a', email: 'b', roles: ['c'] })).toEqual({
      id: 1,
      username: 'a',
      roles: ['c'],
    });
    expect(identifyByConvention({ id: 1, email: 'b' })).toEqual({ id: 1, username: 'b', roles: [] });
    expect(identifyByConvention({ id: 1 })).toEqual({ id: 1, username: '1', roles: [] });
  });

  it('has names of at most 500 characters: a longer one has no room in an index', () => {
    const [fits, tooLong] = ['x'.repeat(500), 'x'.repeat(501)];
    expect(toIdentity({ id: 1, username: fits, roles: [fits] })).toMatchObject({ username: fits });
    expect(() => toIdentity({ id: 1, username: tooLong, roles: [] })).toThrow(/a username that is not/);
    expect(() => toIdentity({ id: 1, username: 'x', roles: [tooLong] })).toThrow(/roles that are not/);
  });

  it('refuses a role that would be read back as two', () => {
    expect(() => toIdentity({ id: 1, username: 'x', roles: ['guest\u001fadmin'] })).toThrow(/U\+001F/);
    expect(toIdentity({ id: 1, username: 'x\u001fy', roles: [''] })).toMatchObject({ roles: [''] });
  });

  it('does not keep the array of roles that the application may change', () => {
    const roles = ['a'];
    const identity = toIdentity({ id: 1, username: 'x', roles });
    roles.push('b');
    expect(identity.roles).toEqual(['a']);
  });
});
