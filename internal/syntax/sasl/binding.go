package sasl

// Binding ties an exchange to the TLS connection it runs in (RFC 5056).
type Binding struct {
	Type string // "tls-exporter", "tls-server-end-point" or "tls-unique"
	Data []byte
}

// Bindings asks a connection for each type of binding SCRAM may use: tls-exporter
// (RFC 9266), tls-server-end-point and tls-unique (RFC 5929). get returns nil for a
// type the connection does not have; without any, there is no -PLUS.
func Bindings(get func(kind string) []byte) []Binding {
	var all []Binding
	for _, kind := range [...]string{"tls-exporter", "tls-server-end-point", "tls-unique"} {
		if data := get(kind); len(data) > 0 {
			all = append(all, Binding{kind, data})
		}
	}
	return all
}
