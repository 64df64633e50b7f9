package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// A handler behind https knows that it is, so that it leads nobody there again.
func TestRequestsOverTLSAreMarked(t *testing.T) {
	for _, want := range []bool{false, true} {
		got := false
		var h http.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.TLS != nil })
		if want {
			h = overTLS(h)
		}
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "http://x/account", nil))
		if got != want {
			t.Errorf("marked: %v, want %v", got, want)
		}
	}
}
