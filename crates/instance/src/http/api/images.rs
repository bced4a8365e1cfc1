//! Images in the instance's own registry.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::extract::Path;
use super::types::{ErrorBody, Image, ImageList, time};
use crate::App;
use crate::accounts::audit;
use crate::http::auth::{SiteAdmin, User};
use crate::http::error::Error;
use crate::registry::ImageName;

/// List the images that jobs can use as `executors.internal/NAME:TAG`.
#[utoipa::path(get, path = "/images", tag = "images", responses((status = 200, body = ImageList)))]
pub(super) async fn list(
    _user: User,
    State(app): State<Arc<App>>,
) -> Result<Json<ImageList>, Error> {
    let tags = app.store.image_tags().await?;
    Ok(Json(ImageList { images: tags.into_iter().map(view).collect() }))
}

/// Remove a tag; its content goes when nothing else names it. Site admins only. `image` is
/// `NAME:TAG` with slashes as `%2F`.
#[utoipa::path(delete, path = "/images/{image}", tag = "images", params(("image" = String, Path)),
    responses((status = 204), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(super) async fn remove(
    SiteAdmin(admin): SiteAdmin,
    State(app): State<Arc<App>>,
    Path(image): Path<String>,
) -> Result<StatusCode, Error> {
    let name: ImageName = image.parse().map_err(|_| Error::NotFound("image"))?;
    if !app.store.delete_image_tag(&name.name, &name.tag).await? {
        return Err(Error::NotFound("image"));
    }
    audit(&app, &admin.actor(), "image.remove", &format!("image:{name}"), "").await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A tag as the API shows it.
pub(crate) fn view(tag: store::ImageTag) -> Image {
    Image {
        reference: format!("{}/{}:{}", crate::registry::HOST, tag.name, tag.tag),
        digest: tag.digest,
        updated_at: time(tag.updated_at),
    }
}
