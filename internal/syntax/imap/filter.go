package imap

import (
	"bufio"
	"strings"
)

// ParseFilter reads the value of a named filter: search keys in UTF-8 without a
// charset (RFC 5466, 3.2). It may use as many keys as one command.
func ParseFilter(value string) (SearchKey, error) {
	r := bufio.NewReaderSize(strings.NewReader(value+"\r\n"), 512)
	d := NewDecoder(r, DefaultLimits)
	d.UTF8 = true
	var key SearchKey
	if !d.searchProgram(&key, nil, "", false) || !d.ExpectCRLF() {
		return SearchKey{}, d.Err()
	}
	if _, err := r.Peek(1); err == nil {
		d.Fail("a filter is one line")
	}
	return key, d.Err()
}

// CountKeys returns how many keys a program has.
func (k *SearchKey) CountKeys() int {
	n := 1
	for i := range k.Keys {
		n += k.Keys[i].CountKeys()
	}
	return n
}
