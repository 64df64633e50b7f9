package netsrv

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// A tls.Conn keeps the buffers that it has read into, for the next read: 3.5 KB after the
// handshake and 18 KB once a client has sent a whole record, for as long as the connection
// lives. Package tls has no way to give them back, so this takes hold of its fields. They
// are looked for by name and type; where they have others some day, nothing is given back
// (and TestTrim says so).

// tlsFields are the places of those fields.
var tlsFields = struct {
	buffers []uintptr // bytes.Buffer
	readers []uintptr // bytes.Reader, over a buffer's bytes
}{
	fieldsOf[bytes.Buffer]("rawInput", "hand"),
	fieldsOf[bytes.Reader]("input"),
}

// fieldsOf returns the offsets of fields of tls.Conn that are of type T.
func fieldsOf[T any](names ...string) (offsets []uintptr) {
	for _, name := range names {
		f, ok := reflect.TypeFor[tls.Conn]().FieldByName(name)
		if ok && f.Type == reflect.TypeFor[T]() {
			offsets = append(offsets, f.Offset)
		}
	}
	return offsets
}

// trim gives back the buffers that are empty. Nobody may be using the connection, and all
// that it has read and decrypted must have been taken.
func trim(tc *tls.Conn) {
	at := func(offset uintptr) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(tc), offset) }
	for _, offset := range tlsFields.readers {
		r := (*bytes.Reader)(at(offset))
		if r.Len() > 0 {
			return // it reads from one of the buffers
		}
		*r = bytes.Reader{}
	}
	for _, offset := range tlsFields.buffers {
		if b := (*bytes.Buffer)(at(offset)); b.Len() == 0 {
			*b = bytes.Buffer{}
		}
	}
}
