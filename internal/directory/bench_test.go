package directory

import "testing"

// BenchmarkAuthenticate is a login with a password that was right a short while ago: that of
// a phone that connects every minute.
func BenchmarkAuthenticate(b *testing.B) {
	f := setUp(b)
	f.add(b, "alice@example.org", "secret")
	if _, err := f.Authenticate(bg, "alice@example.org", "secret", home); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Authenticate(bg, "alice@example.org", "secret", home); err != nil {
			b.Fatal(err)
		}
	}
}
