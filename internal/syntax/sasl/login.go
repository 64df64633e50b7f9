package sasl

import "unicode/utf8"

// loginMech is the mechanism LOGIN (draft-murchison-sasl-login-00): obsolete, and
// still what several clients ask for first. The name may come as initial response.
type loginMech struct {
	creds Credentials
	who   string
}

func (*loginMech) serverFirst() []byte { return []byte("Username:") }
func (l *loginMech) login() string     { return l.who }

// step takes the name, then the password.
func (l *loginMech) step(response []byte) ([]byte, bool, error) {
	if len(response) == 0 || !utf8.Valid(response) {
		return nil, false, malformed("is empty or not UTF-8")
	}
	if l.who == "" {
		name, err := prepareLogin(string(response))
		if err != nil {
			return nil, false, err
		}
		l.who = name
		return []byte("Password:"), false, nil
	}
	if err := l.creds.Verify(l.who, string(response)); err != nil {
		return nil, false, err
	}
	return nil, true, nil
}
