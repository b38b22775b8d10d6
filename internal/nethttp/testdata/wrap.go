package http

// Wrap sends a request in place of t, whose own way of doing so is send.
var Wrap = func(_ *Transport, send func(*Request) (*Response, error), req *Request) (*Response, error) {
	return send(req)
}

// Sent returns the request that was sent in place of req.
var Sent = func(req *Request) *Request { return req }
