package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/genai"
)

// patience is how long the API may take to say that it is there.
const patience = 10 * time.Second

// probe makes a call that draws on no quota. Its error says in plain words what
// would keep all others from succeeding.
func probe(ctx context.Context, client *genai.Client, model string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := client.Models.Get(ctx, model, nil)
	var answer genai.APIError
	var failure *url.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer):
		return unwelcome(answer, model)
	case errors.As(err, &failure):
		return unreachable(failure)
	}
	return fmt.Errorf("cannot look up the model %q: %s", model, oneLine(err.Error()))
}

// unwelcome explains what the API answered.
func unwelcome(e genai.APIError, model string) error {
	said := oneLine(cmp.Or(e.Message, http.StatusText(e.Code)))
	switch {
	case e.Code == http.StatusUnauthorized, e.Code == http.StatusForbidden, strings.Contains(e.Message, "API key"):
		return fmt.Errorf("the API does not accept the key in GEMINI_API_KEY: %s", said)
	case e.Code == http.StatusNotFound && e.Status == "NOT_FOUND":
		return fmt.Errorf("the API has no model %q (-model; for a list see https://ai.google.dev/gemini-api/docs/models)", model)
	case e.Code >= 500:
		return fmt.Errorf("the API has a problem, try again later: %d %s", e.Code, said)
	}
	return fmt.Errorf("the API answers %d: %s", e.Code, said)
}

// unreachable explains why there was no answer.
func unreachable(e *url.Error) error {
	host := "the API"
	if u, err := url.Parse(e.URL); err == nil && u.Host != "" {
		host = u.Host
	}
	var dns *net.DNSError
	switch {
	case errors.As(e, &dns):
		return fmt.Errorf("there is no way to %s (is there a network?): %s", host, oneLine(dns.Error()))
	case e.Timeout():
		return fmt.Errorf("%s has not answered in %v: is there a network?", host, patience)
	}
	return fmt.Errorf("cannot reach %s: %s", host, oneLine(e.Err.Error()))
}
