//! The filters of `tallyd costs` and `tallyd explain`.

use clap::Args;

use tallyd_model::pricing::normalise_provider;
use tallyd_store::queries::grouped::Dimension;

#[derive(Args)]
pub(super) struct Filters {
    /// Only this provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Only this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only this user
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only this application
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// Only calls with this tag; an empty value: without it
    #[arg(long, value_name = "NAME=VALUE", value_parser = tag)]
    tag: Vec<(Dimension, String)>,
}

impl Filters {
    /// The given ones.
    pub(super) fn chosen(&self) -> Vec<(Dimension, String)> {
        let named = [
            (Dimension::Provider, self.provider.as_deref().map(|name| normalise_provider(name).into_owned())),
            (Dimension::Model, self.model.clone()),
            (Dimension::User, self.user.clone()),
            (Dimension::App, self.app.clone()),
        ];
        named.into_iter().filter_map(|(of, name)| Some((of, name?))).chain(self.tag.iter().cloned()).collect()
    }
}

/// A filter by a tag, from `NAME=VALUE`.
fn tag(text: &str) -> Result<(Dimension, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as team=search")?;
    Ok((Dimension::parse(&format!("tag:{name}"))?, value.to_owned()))
}
