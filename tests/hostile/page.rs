//! The page's session: cookies, cross-site requests.
