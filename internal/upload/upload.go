// Package upload has an API read what it needs of the body of a request before the
// request is sent, where that body cannot be had twice: no more than there is time
// and memory for. What was not read is charged by its length.
package upload

import (
	"time"

	"example.com/tollgate/internal/readahead"
	"example.com/tollgate/provider"
)

// Bounds on what is read of one body.
const (
	maxPrompt  = 8 << 20          // bytes
	maxSilence = 10 * time.Second // without a byte
)

// Read completes a call from the beginning of a body, of which nothing was passed on
// yet. A request whose model nobody knows waits for memory, for at most the given
// time; 0: any; negative: none. One of which just the cost is not known does not
// wait. rough is set where a part of the cost in tokens is that of bytes which were
// not read. The error is the one that has ended the wait: the context's, or
// readahead.ErrFull.
func Read(b *readahead.Body, api provider.API, call provider.Call, tokens bool, wait time.Duration) (c provider.Call, rough bool, err error) {
	defer b.Release()
	need := b.Most(maxPrompt)
	_, size := b.Length()
	r := reader{b, api, call, tokens}
	if size >= 0 && b.Reserve(need) || size < 0 && !call.Open {
		c, end, err := r.read(need)
		return c, tokens && end != readahead.Whole, err
	}
	// The name of the model is mostly at the beginning, which there is memory for.
	var head int64
	if call.Open {
		head = b.ReserveHead(need)
	}
	c, end, err := r.read(head)
	rough = tokens && end != readahead.Whole
	switch named := c.Key != call.Key; {
	case err != nil, end != readahead.Long, !call.Open, named && size >= 0:
		return c, rough, err
	case named:
	case wait < 0:
		return c, rough, readahead.ErrFull
	default:
		if err := b.Await(need, wait); err != nil {
			return c, rough, err
		}
	}
	c, end, err = r.read(need)
	return c, tokens && end != readahead.Whole, err
}

// A reader has an API read a body.
type reader struct {
	b      *readahead.Body
	api    provider.API
	call   provider.Call // by the URL and the headers
	tokens bool          // whether those are wanted
}

// read has the API read so many bytes at most. A body that is silent may be of a
// caller who waits for the response before writing on: then, and where it ends for
// lack of memory, what was not read is charged as well.
func (r *reader) read(most int64) (provider.Call, readahead.End, error) {
	h := readahead.NewHead(r.b, readahead.Limits{Bytes: most, Silence: maxSilence})
	defer h.Close()
	c := r.call
	r.api.Read(&c, h, r.tokens)
	end := h.End()
	if r.tokens && end != readahead.Whole {
		c.Cost[provider.Tokens] = max(c.Cost[provider.Tokens], 0) + unread(r.b.Length())
	}
	return c, end, h.Err()
}

// mostUnread is how many tokens a text that was not read is taken to have at most: as
// many as the largest prompts that models take.
const mostUnread = 1 << 20

// unread returns what is charged, in tokens, for the rest of a body of which so many
// bytes were read: one for each three bytes, and mostUnread where its size is not
// known. No text is as long as maxPrompt: what comes after that is sound or images,
// a token for each 256 bytes, and as much again as before if its size is not known.
func unread(read, size int64) int64 {
	const text, media = 3, 256
	switch {
	case size < 0 && read >= maxPrompt:
		return read / media
	case size < 0:
		return mostUnread
	}
	begin := min(size, max(maxPrompt, read)) - read
	return min((begin+text-1)/text, mostUnread) + (size-read-begin)/media
}
